"""What `launcher doctor` looks at; one module per part of the cluster."""
