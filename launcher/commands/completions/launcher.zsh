#compdef launcher

_cyclopts_launcher() {
  local line state

  _arguments -C \
    '--help[Display this message and exit.]' \
    '-h[Display this message and exit.]' \
    '--version[Display application version.]' \
    '1: :->cmds' \
    '*::arg:->args'

  case $state in
    cmds)
      local -a commands
      commands=(
        'completion:Print what completes commands and flags in a shell; \`source <(launcher completi…'
        'init:Ask for the settings that stay, and write them to \`launcher.yaml\` here; print i…'
        'config:Print each setting that has a value without flags, its origin, and why no job c…'
        'render:Print the Kubernetes objects of a job; talks to nobody.'
        'submit:Create a job, and print its name; with \`--local\`, run it here and print where i…'
        'scale:Run a job at several sizes, for one or several models, and print times, speed-u…'
        'doctor:Check whether a job would run, before anything is spent\: a row for each thing t…'
        'list:Print the jobs of a namespace, the newest first.'
        'status:Print how a job is\: conditions, pods, last events, progress, and why it does no…'
        'events:Print what the cluster noted about a job, its pods and its claim, the oldest fi…'
        'wait:Wait until a job is over, and print its state; its outcome is the exit code.'
        'delete:End jobs and remove them, with their pods, Services, claims and volumes; the ru…'
        'clone:Submit a new job, and so a new run, with the settings of another.'
        'resume:Submit a job that is over once more\: its run goes on from the newest checkpoint.'
        'checkpoints:Print the checkpoints of a run, the newest first.'
        'pull:Fetch a run'\''s checkpoint, model, scores and logs, verified; print their paths, …'
        'logs:Print the log of a job\: all its pods, each line with its rank, else with its po…'
      )
      _describe -t commands 'command' commands
      ;;
    args)
      case $words[1] in
        completion)
          case ${words[CURRENT]} in
            --shell=*)
              compset -P '--shell='
              compadd -- 'bash' 'zsh' 'fish'
              return
              ;;
          esac
          _arguments \
            "1:Which shell.:(bash zsh fish)" \
            "*--shell[Which shell.]:shell:(bash zsh fish)" \
            '--help[Display this message and exit.]' \
            '-h[Display this message and exit.]' \
            '--version[Display application version.]'

          ;;
        init)
          _arguments \
            '*:KEY=VALUE, a setting to write; as often as needed.' \
            '--yes[Ask nothing, and change a file that is there; without a terminal nobody is aske…]' \
            '-y[Ask nothing, and change a file that is there; without a terminal nobody is aske…]' \
            '--help[Display this message and exit.]' \
            '-h[Display this message and exit.]' \
            '--version[Display application version.]'

          ;;
        config)
          _arguments \
            "*-o[How to print them.]:o:(table json yaml)" \
            '--help[Display this message and exit.]' \
            '-h[Display this message and exit.]' \
            '--version[Display application version.]'

          ;;
        render)
          case ${words[CURRENT]} in
            --accelerator=*)
              compset -P '--accelerator='
              compadd -- 'gaudi' 'cuda' 'cpu'
              return
              ;;
            --gaudi-generation=*)
              compset -P '--gaudi-generation='
              compadd -- '1' '2' '3'
              return
              ;;
            --data-access=*)
              compset -P '--data-access='
              compadd -- 'mount' 'api'
              return
              ;;
            --csi-driver=*)
              compset -P '--csi-driver='
              compadd -- 's3.csi.aws.com' 's3.csi.scality.com'
              return
              ;;
            --file=*)
              compset -P '--file='
              _files
              return
              ;;
          esac
          _arguments \
            "*--accelerator[What to train on.]:accelerator:(gaudi cuda cpu)" \
            "*--gaudi-generation[Generation of Gaudi\: 1 is DL1.]:gaudi-generation:(1 2 3)" \
            '*--workers[Training processes, each with one accelerator.]:workers' \
            '*--workers-per-node[Workers in one pod; the largest divisor of WORKERS up to 8 unless given. Gaudi …]:workers-per-node' \
            '*--elastic[MIN\:MAX nodes\: go on with fewer, down to MIN. MAX is what WORKERS make. Needs -…]:elastic' \
            '*--efa[Elastic Fabric Adapters of each node, for several nodes with Gaudi 1 (DL1) or N…]:efa' \
            '*--image[Container image with the trainer; there is no default.]:image' \
            '*--data[Data set\: s3\://BUCKET/PREFIX, or a directory that every node has. Not needed wi…]:data' \
            '*--output[Where runs are kept\: s3\://BUCKET/PREFIX, or a directory that every node has.]:output' \
            '*--name[Name of job and run\: a-z, 0-9 and -, at most 53 characters; made up unless give…]:name' \
            '*--namespace[Namespace of the job.]:namespace' \
            '*-n[Namespace of the job.]:n' \
            '*--s3-endpoint[URL of the S3 server; AWS unless given.]:s3-endpoint' \
            '*--s3-region[Region of the buckets.]:s3-region' \
            '*--s3-secret[Secret of the namespace with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; witho…]:s3-secret' \
            "*--data-access[mount the bucket read-only by a CSI driver, or download it through the S3 api i…]:data-access:(mount api)" \
            '*--data-pvc[Claim that exists and holds the data set; then no volume is made.]:data-pvc' \
            "*--csi-driver[The Mountpoint S3 driver of the cluster.]:csi-driver:(s3.csi.aws.com s3.csi.scality.com)" \
            '*--csi-secret[Secret with key_id and access_key for the Scality driver; that of --s3-secret u…]:csi-secret' \
            '*--service-account[Service account of the pods.]:service-account' \
            '*--image-pull-secret[Secret for the image'\''s registry; as often as needed.]:image-pull-secret' \
            '*--env[NAME=VALUE for the container; as often as needed. Not for secrets.]:env' \
            '*--env-from-secret[NAME=SECRET\:KEY, a variable from a Secret, or SECRET for all its keys; as often…]:env-from-secret' \
            '*--node-selector[KEY=VALUE that a node must have as a label; as often as needed.]:node-selector' \
            '*--toleration[KEY\[=VALUE\]\[\:EFFECT\], a taint that the pods tolerate; as often as needed.]:toleration' \
            '*--label[KEY=VALUE for the job and its pods; as often as needed.]:label' \
            '*--overlay[A patch of the pod template, merged last as kubectl patch does, for what has no…]:overlay' \
            '*--queue[Kueue'\''s LocalQueue that admits the job.]:queue' \
            '*--volcano-queue[Volcano'\''s queue; the operator must run with --gang-scheduler-name=volcano.]:volcano-queue' \
            '*--priority-class[PriorityClass of the pods.]:priority-class' \
            '*--ttl[Remove the job so long after it has succeeded\: 1h, 2d. The operator never remov…]:ttl' \
            '*--backoff[How often workers that crashed are started again before the job has failed.]:backoff' \
            '*--deadline[End the run so long after its first start\: 90m, 8h. It keeps its checkpoints; t…]:deadline' \
            '*--file[YAML file with settings\: the flags'\'' names in snake_case, the trainer'\''s flags as…]:file:_files' \
            '*-f[YAML file with settings\: the flags'\'' names in snake_case, the trainer'\''s flags as…]:f:_files' \
            '*--set[KEY=YAML, one setting, stronger than the file'\''s; as often as needed.]:set' \
            "*-o[How to print them.]:o:(yaml json name)" \
            '--help[Display this message and exit.]' \
            '-h[Display this message and exit.]' \
            '--version[Display application version.]'

          ;;
        submit)
          case ${words[CURRENT]} in
            --accelerator=*)
              compset -P '--accelerator='
              compadd -- 'gaudi' 'cuda' 'cpu'
              return
              ;;
            --gaudi-generation=*)
              compset -P '--gaudi-generation='
              compadd -- '1' '2' '3'
              return
              ;;
            --data-access=*)
              compset -P '--data-access='
              compadd -- 'mount' 'api'
              return
              ;;
            --csi-driver=*)
              compset -P '--csi-driver='
              compadd -- 's3.csi.aws.com' 's3.csi.scality.com'
              return
              ;;
            --file=*)
              compset -P '--file='
              _files
              return
              ;;
            --dry-run=*)
              compset -P '--dry-run='
              compadd -- 'none' 'client' 'server'
              return
              ;;
          esac
          _arguments \
            "*--accelerator[What to train on.]:accelerator:(gaudi cuda cpu)" \
            "*--gaudi-generation[Generation of Gaudi\: 1 is DL1.]:gaudi-generation:(1 2 3)" \
            '*--workers[Training processes, each with one accelerator.]:workers' \
            '*--workers-per-node[Workers in one pod; the largest divisor of WORKERS up to 8 unless given. Gaudi …]:workers-per-node' \
            '*--elastic[MIN\:MAX nodes\: go on with fewer, down to MIN. MAX is what WORKERS make. Needs -…]:elastic' \
            '*--efa[Elastic Fabric Adapters of each node, for several nodes with Gaudi 1 (DL1) or N…]:efa' \
            '*--image[Container image with the trainer; there is no default.]:image' \
            '*--data[Data set\: s3\://BUCKET/PREFIX, or a directory that every node has. Not needed wi…]:data' \
            '*--output[Where runs are kept\: s3\://BUCKET/PREFIX, or a directory that every node has.]:output' \
            '*--name[Name of job and run\: a-z, 0-9 and -, at most 53 characters; made up unless give…]:name' \
            '*--namespace[Namespace of the job.]:namespace' \
            '*-n[Namespace of the job.]:n' \
            '*--s3-endpoint[URL of the S3 server; AWS unless given.]:s3-endpoint' \
            '*--s3-region[Region of the buckets.]:s3-region' \
            '*--s3-secret[Secret of the namespace with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; witho…]:s3-secret' \
            "*--data-access[mount the bucket read-only by a CSI driver, or download it through the S3 api i…]:data-access:(mount api)" \
            '*--data-pvc[Claim that exists and holds the data set; then no volume is made.]:data-pvc' \
            "*--csi-driver[The Mountpoint S3 driver of the cluster.]:csi-driver:(s3.csi.aws.com s3.csi.scality.com)" \
            '*--csi-secret[Secret with key_id and access_key for the Scality driver; that of --s3-secret u…]:csi-secret' \
            '*--service-account[Service account of the pods.]:service-account' \
            '*--image-pull-secret[Secret for the image'\''s registry; as often as needed.]:image-pull-secret' \
            '*--env[NAME=VALUE for the container; as often as needed. Not for secrets.]:env' \
            '*--env-from-secret[NAME=SECRET\:KEY, a variable from a Secret, or SECRET for all its keys; as often…]:env-from-secret' \
            '*--node-selector[KEY=VALUE that a node must have as a label; as often as needed.]:node-selector' \
            '*--toleration[KEY\[=VALUE\]\[\:EFFECT\], a taint that the pods tolerate; as often as needed.]:toleration' \
            '*--label[KEY=VALUE for the job and its pods; as often as needed.]:label' \
            '*--overlay[A patch of the pod template, merged last as kubectl patch does, for what has no…]:overlay' \
            '*--queue[Kueue'\''s LocalQueue that admits the job.]:queue' \
            '*--volcano-queue[Volcano'\''s queue; the operator must run with --gang-scheduler-name=volcano.]:volcano-queue' \
            '*--priority-class[PriorityClass of the pods.]:priority-class' \
            '*--ttl[Remove the job so long after it has succeeded\: 1h, 2d. The operator never remov…]:ttl' \
            '*--backoff[How often workers that crashed are started again before the job has failed.]:backoff' \
            '*--deadline[End the run so long after its first start\: 90m, 8h. It keeps its checkpoints; t…]:deadline' \
            '*--file[YAML file with settings\: the flags'\'' names in snake_case, the trainer'\''s flags as…]:file:_files' \
            '*-f[YAML file with settings\: the flags'\'' names in snake_case, the trainer'\''s flags as…]:f:_files' \
            '*--set[KEY=YAML, one setting, stronger than the file'\''s; as often as needed.]:set' \
            '*--context[Context of the kubeconfig; its current one unless given.]:context' \
            '*--kubeconfig[Kubeconfig file; that of KUBECONFIG, or ~/.kube/config, unless given.]:kubeconfig' \
            '--local[Run it on this machine, without a cluster\: a process for each pod. Needs no ima…]' \
            "*--dry-run[client prints the objects; server asks the cluster whether it would take them.]:dry-run:(none client server)" \
            '--wait[Wait until the job is over; its outcome is the exit code.]' \
            '--follow[Follow the log until the job is over; its outcome is the exit code.]' \
            '*--timeout[How long to wait at most\: 90s, 30m, 8h.]:timeout' \
            '--help[Display this message and exit.]' \
            '-h[Display this message and exit.]' \
            '--version[Display application version.]'

          ;;
        scale)
          case ${words[CURRENT]} in
            --accelerator=*)
              compset -P '--accelerator='
              compadd -- 'gaudi' 'cuda' 'cpu'
              return
              ;;
            --gaudi-generation=*)
              compset -P '--gaudi-generation='
              compadd -- '1' '2' '3'
              return
              ;;
            --data-access=*)
              compset -P '--data-access='
              compadd -- 'mount' 'api'
              return
              ;;
            --csi-driver=*)
              compset -P '--csi-driver='
              compadd -- 's3.csi.aws.com' 's3.csi.scality.com'
              return
              ;;
            --to=*)
              compset -P '--to='
              _files
              return
              ;;
            --file=*)
              compset -P '--file='
              _files
              return
              ;;
          esac
          _arguments \
            "*--accelerator[What to train on.]:accelerator:(gaudi cuda cpu)" \
            "*--gaudi-generation[Generation of Gaudi\: 1 is DL1.]:gaudi-generation:(1 2 3)" \
            '*--workers-per-node[Workers in one pod; the largest divisor of WORKERS up to 8 unless given. Gaudi …]:workers-per-node' \
            '*--efa[Elastic Fabric Adapters of each node, for several nodes with Gaudi 1 (DL1) or N…]:efa' \
            '*--image[Container image with the trainer; there is no default.]:image' \
            '*--data[Data set\: s3\://BUCKET/PREFIX, or a directory that every node has. Not needed wi…]:data' \
            '*--output[Where runs are kept\: s3\://BUCKET/PREFIX, or a directory that every node has.]:output' \
            '*--name[What the names of all runs begin with\: they are NAME-MODEL-wN.]:name' \
            '*--namespace[Namespace of the job.]:namespace' \
            '*-n[Namespace of the job.]:n' \
            '*--s3-endpoint[URL of the S3 server; AWS unless given.]:s3-endpoint' \
            '*--s3-region[Region of the buckets.]:s3-region' \
            '*--s3-secret[Secret of the namespace with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; witho…]:s3-secret' \
            "*--data-access[mount the bucket read-only by a CSI driver, or download it through the S3 api i…]:data-access:(mount api)" \
            '*--data-pvc[Claim that exists and holds the data set; then no volume is made.]:data-pvc' \
            "*--csi-driver[The Mountpoint S3 driver of the cluster.]:csi-driver:(s3.csi.aws.com s3.csi.scality.com)" \
            '*--csi-secret[Secret with key_id and access_key for the Scality driver; that of --s3-secret u…]:csi-secret' \
            '*--service-account[Service account of the pods.]:service-account' \
            '*--image-pull-secret[Secret for the image'\''s registry; as often as needed.]:image-pull-secret' \
            '*--env[NAME=VALUE for the container; as often as needed. Not for secrets.]:env' \
            '*--env-from-secret[NAME=SECRET\:KEY, a variable from a Secret, or SECRET for all its keys; as often…]:env-from-secret' \
            '*--node-selector[KEY=VALUE that a node must have as a label; as often as needed.]:node-selector' \
            '*--toleration[KEY\[=VALUE\]\[\:EFFECT\], a taint that the pods tolerate; as often as needed.]:toleration' \
            '*--label[KEY=VALUE for the job and its pods; as often as needed.]:label' \
            '*--overlay[A patch of the pod template, merged last as kubectl patch does, for what has no…]:overlay' \
            '*--queue[Kueue'\''s LocalQueue that admits the job.]:queue' \
            '*--volcano-queue[Volcano'\''s queue; the operator must run with --gang-scheduler-name=volcano.]:volcano-queue' \
            '*--priority-class[PriorityClass of the pods.]:priority-class' \
            '*--ttl[Remove the job so long after it has succeeded\: 1h, 2d. The operator never remov…]:ttl' \
            '*--backoff[How often workers that crashed are started again before the job has failed.]:backoff' \
            '*--deadline[End the run so long after its first start\: 90m, 8h. It keeps its checkpoints; t…]:deadline' \
            '*--workers[Sizes to compare, as 1,2,4\: so many training processes, each with one accelerat…]:workers' \
            '*--models[Models to compare, as vgg16,densenet121; the one of the trainer'\''s flags unless …]:models' \
            '--weak[Hold the batch of a worker fixed, so that the global batch grows with the size,…]' \
            '*--to[Directory for what the runs say of themselves, a folder for each, and for the p…]:to:_files' \
            '*--file[YAML file with settings\: the flags'\'' names in snake_case, the trainer'\''s flags as…]:file:_files' \
            '*-f[YAML file with settings\: the flags'\'' names in snake_case, the trainer'\''s flags as…]:f:_files' \
            '*--set[KEY=YAML, one setting, stronger than the file'\''s; as often as needed.]:set' \
            '*--context[Context of the kubeconfig; its current one unless given.]:context' \
            '*--kubeconfig[Kubeconfig file; that of KUBECONFIG, or ~/.kube/config, unless given.]:kubeconfig' \
            '--local[Run them on this machine, without a cluster, one after the other. Needs no imag…]' \
            '*--parallel[So many jobs at once in the cluster; one after the other unless given, so that …]:parallel' \
            '*--s3-endpoint-here[URL of the S3 server as this machine reaches it; that of --s3-endpoint unless g…]:s3-endpoint-here' \
            "*-o[How to print the comparison.]:o:(table json csv)" \
            '--help[Display this message and exit.]' \
            '-h[Display this message and exit.]' \
            '--version[Display application version.]'

          ;;
        doctor)
          case ${words[CURRENT]} in
            --accelerator=*)
              compset -P '--accelerator='
              compadd -- 'gaudi' 'cuda' 'cpu'
              return
              ;;
            --gaudi-generation=*)
              compset -P '--gaudi-generation='
              compadd -- '1' '2' '3'
              return
              ;;
            --data-access=*)
              compset -P '--data-access='
              compadd -- 'mount' 'api'
              return
              ;;
            --csi-driver=*)
              compset -P '--csi-driver='
              compadd -- 's3.csi.aws.com' 's3.csi.scality.com'
              return
              ;;
            --file=*)
              compset -P '--file='
              _files
              return
              ;;
          esac
          _arguments \
            "*--accelerator[What to train on.]:accelerator:(gaudi cuda cpu)" \
            "*--gaudi-generation[Generation of Gaudi\: 1 is DL1.]:gaudi-generation:(1 2 3)" \
            '*--workers[Training processes, each with one accelerator.]:workers' \
            '*--workers-per-node[Workers in one pod; the largest divisor of WORKERS up to 8 unless given. Gaudi …]:workers-per-node' \
            '*--elastic[MIN\:MAX nodes\: go on with fewer, down to MIN. MAX is what WORKERS make. Needs -…]:elastic' \
            '*--efa[Elastic Fabric Adapters of each node, for several nodes with Gaudi 1 (DL1) or N…]:efa' \
            '*--image[Container image with the trainer; there is no default.]:image' \
            '*--data[Data set\: s3\://BUCKET/PREFIX, or a directory that every node has. Not needed wi…]:data' \
            '*--output[Where runs are kept\: s3\://BUCKET/PREFIX, or a directory that every node has.]:output' \
            '*--name[Name of job and run\: a-z, 0-9 and -, at most 53 characters; made up unless give…]:name' \
            '*--namespace[Namespace of the job.]:namespace' \
            '*-n[Namespace of the job.]:n' \
            '*--s3-endpoint[URL of the S3 server; AWS unless given.]:s3-endpoint' \
            '*--s3-region[Region of the buckets.]:s3-region' \
            '*--s3-secret[Secret of the namespace with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; witho…]:s3-secret' \
            "*--data-access[mount the bucket read-only by a CSI driver, or download it through the S3 api i…]:data-access:(mount api)" \
            '*--data-pvc[Claim that exists and holds the data set; then no volume is made.]:data-pvc' \
            "*--csi-driver[The Mountpoint S3 driver of the cluster.]:csi-driver:(s3.csi.aws.com s3.csi.scality.com)" \
            '*--csi-secret[Secret with key_id and access_key for the Scality driver; that of --s3-secret u…]:csi-secret' \
            '*--service-account[Service account of the pods.]:service-account' \
            '*--image-pull-secret[Secret for the image'\''s registry; as often as needed.]:image-pull-secret' \
            '*--env[NAME=VALUE for the container; as often as needed. Not for secrets.]:env' \
            '*--env-from-secret[NAME=SECRET\:KEY, a variable from a Secret, or SECRET for all its keys; as often…]:env-from-secret' \
            '*--node-selector[KEY=VALUE that a node must have as a label; as often as needed.]:node-selector' \
            '*--toleration[KEY\[=VALUE\]\[\:EFFECT\], a taint that the pods tolerate; as often as needed.]:toleration' \
            '*--label[KEY=VALUE for the job and its pods; as often as needed.]:label' \
            '*--overlay[A patch of the pod template, merged last as kubectl patch does, for what has no…]:overlay' \
            '*--queue[Kueue'\''s LocalQueue that admits the job.]:queue' \
            '*--volcano-queue[Volcano'\''s queue; the operator must run with --gang-scheduler-name=volcano.]:volcano-queue' \
            '*--priority-class[PriorityClass of the pods.]:priority-class' \
            '*--ttl[Remove the job so long after it has succeeded\: 1h, 2d. The operator never remov…]:ttl' \
            '*--backoff[How often workers that crashed are started again before the job has failed.]:backoff' \
            '*--deadline[End the run so long after its first start\: 90m, 8h. It keeps its checkpoints; t…]:deadline' \
            '*--file[YAML file with settings\: the flags'\'' names in snake_case, the trainer'\''s flags as…]:file:_files' \
            '*-f[YAML file with settings\: the flags'\'' names in snake_case, the trainer'\''s flags as…]:f:_files' \
            '*--set[KEY=YAML, one setting, stronger than the file'\''s; as often as needed.]:set' \
            '*--context[Context of the kubeconfig; its current one unless given.]:context' \
            '*--kubeconfig[Kubeconfig file; that of KUBECONFIG, or ~/.kube/config, unless given.]:kubeconfig' \
            '--in-cluster[Look at buckets, labels and weights from a short pod with the job'\''s account, in…]' \
            "*-o[How to print the rows.]:o:(table json)" \
            '--help[Display this message and exit.]' \
            '-h[Display this message and exit.]' \
            '--version[Display application version.]'

          ;;
        list)
          _arguments \
            '*--context[Context of the kubeconfig; its current one unless given.]:context' \
            '*--kubeconfig[Kubeconfig file; that of KUBECONFIG, or ~/.kube/config, unless given.]:kubeconfig' \
            '*--namespace[Namespace; that of the context unless given.]:namespace' \
            '*-n[Namespace; that of the context unless given.]:n' \
            '--all-namespaces[Of all namespaces.]' \
            '-A[Of all namespaces.]' \
            '*--selector[Only jobs with these labels\: team=radiology,stage!=test.]:selector' \
            '*-l[Only jobs with these labels\: team=radiology,stage!=test.]:l' \
            '--watch[Print them again whenever they have changed.]' \
            '-w[Print them again whenever they have changed.]' \
            "*-o[How to print it.]:o:(table wide json yaml name)" \
            '--help[Display this message and exit.]' \
            '-h[Display this message and exit.]' \
            '--version[Display application version.]'

          ;;
        status)
          _arguments \
            '1:Name of the job.' \
            '*--name[Name of the job.]:name' \
            '*--context[Context of the kubeconfig; its current one unless given.]:context' \
            '*--kubeconfig[Kubeconfig file; that of KUBECONFIG, or ~/.kube/config, unless given.]:kubeconfig' \
            '*--namespace[Namespace; that of the context unless given.]:namespace' \
            '*-n[Namespace; that of the context unless given.]:n' \
            '--watch[Print it again whenever it has changed.]' \
            '-w[Print it again whenever it has changed.]' \
            "*-o[How to print it.]:o:(table wide json yaml name)" \
            '--help[Display this message and exit.]' \
            '-h[Display this message and exit.]' \
            '--version[Display application version.]'

          ;;
        events)
          _arguments \
            '1:Name of the job.' \
            '*--name[Name of the job.]:name' \
            '*--context[Context of the kubeconfig; its current one unless given.]:context' \
            '*--kubeconfig[Kubeconfig file; that of KUBECONFIG, or ~/.kube/config, unless given.]:kubeconfig' \
            '*--namespace[Namespace; that of the context unless given.]:namespace' \
            '*-n[Namespace; that of the context unless given.]:n' \
            "*-o[How to print it.]:o:(table wide json yaml name)" \
            '--help[Display this message and exit.]' \
            '-h[Display this message and exit.]' \
            '--version[Display application version.]'

          ;;
        wait)
          case ${words[CURRENT]} in
            --for=*)
              compset -P '--for='
              compadd -- 'Succeeded' 'Failed' 'Running' 'Suspended'
              return
              ;;
          esac
          _arguments \
            '1:Name of the job.' \
            '*--name[Name of the job.]:name' \
            '*--context[Context of the kubeconfig; its current one unless given.]:context' \
            '*--kubeconfig[Kubeconfig file; that of KUBECONFIG, or ~/.kube/config, unless given.]:kubeconfig' \
            '*--namespace[Namespace; that of the context unless given.]:namespace' \
            '*-n[Namespace; that of the context unless given.]:n' \
            "*--for[Wait for this state instead; it is an error when the job ends in another.]:for:(Succeeded Failed Running Suspended)" \
            '*--timeout[How long to wait at most\: 90s, 30m, 8h.]:timeout' \
            '--help[Display this message and exit.]' \
            '-h[Display this message and exit.]' \
            '--version[Display application version.]'

          ;;
        delete)
          _arguments \
            '*:Name of the job.' \
            '*--context[Context of the kubeconfig; its current one unless given.]:context' \
            '*--kubeconfig[Kubeconfig file; that of KUBECONFIG, or ~/.kube/config, unless given.]:kubeconfig' \
            '*--namespace[Namespace; that of the context unless given.]:namespace' \
            '*-n[Namespace; that of the context unless given.]:n' \
            '--yes[Do not ask; without a terminal nobody is asked.]' \
            '-y[Do not ask; without a terminal nobody is asked.]' \
            '*--timeout[How long to wait at most\: 90s, 30m, 8h.]:timeout' \
            '--help[Display this message and exit.]' \
            '-h[Display this message and exit.]' \
            '--version[Display application version.]'

          ;;
        clone)
          case ${words[CURRENT]} in
            --dry-run=*)
              compset -P '--dry-run='
              compadd -- 'none' 'client' 'server'
              return
              ;;
          esac
          _arguments \
            '1:Name of the job to clone.' \
            '*--source[Name of the job to clone.]:source' \
            '*--set[KEY=YAML, a setting to change; as often as needed.]:set' \
            '*--name[Name of the new job; made up unless given.]:name' \
            '*--context[Context of the kubeconfig; its current one unless given.]:context' \
            '*--kubeconfig[Kubeconfig file; that of KUBECONFIG, or ~/.kube/config, unless given.]:kubeconfig' \
            '*--namespace[Namespace; that of the context unless given.]:namespace' \
            '*-n[Namespace; that of the context unless given.]:n' \
            "*--dry-run[client prints the objects; server asks the cluster whether it would take them.]:dry-run:(none client server)" \
            '--help[Display this message and exit.]' \
            '-h[Display this message and exit.]' \
            '--version[Display application version.]'

          ;;
        resume)
          case ${words[CURRENT]} in
            --dry-run=*)
              compset -P '--dry-run='
              compadd -- 'none' 'client' 'server'
              return
              ;;
          esac
          _arguments \
            '1:Name of the job, and so of its run.' \
            '*--name[Name of the job, and so of its run.]:name' \
            '*--set[KEY=YAML, a setting to change; as often as needed.]:set' \
            '*--context[Context of the kubeconfig; its current one unless given.]:context' \
            '*--kubeconfig[Kubeconfig file; that of KUBECONFIG, or ~/.kube/config, unless given.]:kubeconfig' \
            '*--namespace[Namespace; that of the context unless given.]:namespace' \
            '*-n[Namespace; that of the context unless given.]:n' \
            '*--output[Where runs are kept, s3\://BUCKET/PREFIX or a directory\: typed here no job is ne…]:output' \
            '*--s3-endpoint[URL of the S3 server, as this machine reaches it; that of the job unless typed …]:s3-endpoint' \
            '*--s3-region[Region of the bucket; that of the job unless typed here.]:s3-region' \
            '--yes[Do not ask before the job that is over is removed; without a terminal nobody is…]' \
            '-y[Do not ask before the job that is over is removed; without a terminal nobody is…]' \
            "*--dry-run[client prints the objects; server asks the cluster whether it would take them.]:dry-run:(none client server)" \
            '--wait[Wait until the job is over; its outcome is the exit code.]' \
            '--follow[Follow the log until the job is over; its outcome is the exit code.]' \
            '*--timeout[How long to wait at most\: 90s, 30m, 8h.]:timeout' \
            '--help[Display this message and exit.]' \
            '-h[Display this message and exit.]' \
            '--version[Display application version.]'

          ;;
        checkpoints)
          _arguments \
            '1:Name of the job, and so of its run.' \
            '*--name[Name of the job, and so of its run.]:name' \
            '*--context[Context of the kubeconfig; its current one unless given.]:context' \
            '*--kubeconfig[Kubeconfig file; that of KUBECONFIG, or ~/.kube/config, unless given.]:kubeconfig' \
            '*--namespace[Namespace; that of the context unless given.]:namespace' \
            '*-n[Namespace; that of the context unless given.]:n' \
            '*--output[Where runs are kept, s3\://BUCKET/PREFIX or a directory\: typed here no job is ne…]:output' \
            '*--s3-endpoint[URL of the S3 server, as this machine reaches it; that of the job unless typed …]:s3-endpoint' \
            '*--s3-region[Region of the bucket; that of the job unless typed here.]:s3-region' \
            "*-o[How to print them; by name as steps.]:o:(table json yaml name)" \
            '--help[Display this message and exit.]' \
            '-h[Display this message and exit.]' \
            '--version[Display application version.]'

          ;;
        pull)
          case ${words[CURRENT]} in
            --to=*)
              compset -P '--to='
              _files
              return
              ;;
            --what=*)
              compset -P '--what='
              compadd -- 'checkpoint' 'model' 'report' 'all'
              return
              ;;
          esac
          _arguments \
            '1:Name of the job, and so of its run.' \
            '*--name[Name of the job, and so of its run.]:name' \
            '*--step[Which checkpoint\: best, last or a step'\''s number; the best unless given.]:step' \
            '*--to[Directory to put them in; NAME here unless given.]:to:_files' \
            "*--what[checkpoint, model (the exported weights), report (scores, predictions, record),…]:what:(checkpoint model report all)" \
            '*--context[Context of the kubeconfig; its current one unless given.]:context' \
            '*--kubeconfig[Kubeconfig file; that of KUBECONFIG, or ~/.kube/config, unless given.]:kubeconfig' \
            '*--namespace[Namespace; that of the context unless given.]:namespace' \
            '*-n[Namespace; that of the context unless given.]:n' \
            '*--output[Where runs are kept, s3\://BUCKET/PREFIX or a directory\: typed here no job is ne…]:output' \
            '*--s3-endpoint[URL of the S3 server, as this machine reaches it; that of the job unless typed …]:s3-endpoint' \
            '*--s3-region[Region of the bucket; that of the job unless typed here.]:s3-region' \
            '--help[Display this message and exit.]' \
            '-h[Display this message and exit.]' \
            '--version[Display application version.]'

          ;;
        logs)
          _arguments \
            '1:Name of the job.' \
            '*--name[Name of the job.]:name' \
            '*--context[Context of the kubeconfig; its current one unless given.]:context' \
            '*--kubeconfig[Kubeconfig file; that of KUBECONFIG, or ~/.kube/config, unless given.]:kubeconfig' \
            '*--namespace[Namespace; that of the context unless given.]:namespace' \
            '*-n[Namespace; that of the context unless given.]:n' \
            '--follow[Wait for pods and lines until the job is over; Ctrl-C leaves, the job goes on.]' \
            '-f[Wait for pods and lines until the job is over; Ctrl-C leaves, the job goes on.]' \
            '*--ranks[Only lines of these ranks, such as 0,3-5; lines without a rank are then left ou…]:ranks' \
            '*--tail[Begin with the last lines, so many of each pod; pods that start later are shown…]:tail' \
            '*--since[Begin with lines no older than this, such as 10m, by the API server'\''s clock.]:since' \
            '--previous[Show what each pod'\''s container wrote that was there before its present one.]' \
            '-p[Show what each pod'\''s container wrote that was there before its present one.]' \
            '--timestamps[Print the time of each line.]' \
            "*-o[raw leaves out the names of pods; json is an object a line\: time, pod, rank, te…]:o:(text raw json)" \
            '--help[Display this message and exit.]' \
            '-h[Display this message and exit.]' \
            '--version[Display application version.]'

          ;;
      esac
      ;;
  esac
}

