"""Layouts of data sets: from a directory to its label table. One module reads one layout.

    nih       Data_Entry_2017*.csv, train_val_list.txt, test_list.txt   NIH's release of ChestX-ray14
    lists     train_list.txt, val_list.txt, test_list.txt               a name and 14 values 0 or 1 per line
    csv       labels.csv                                                a column per finding, of any names
    folders   train/CLASS/*, test/CLASS/*, optionally val/CLASS/*       one class per image
    chexpert  train.csv, valid.csv                                      CheXpert, full size or small
    mimic-cxr mimic-cxr-2.*-split.csv, -metadata.csv, -chexpert.csv     MIMIC-CXR-JPG
    padchest  PADCHEST_chest_x_ray_images_labels*.csv                   PadChest
    vindr     train.csv                                                 VinDr-CXR, several readers an image
    rsna      stage_2_train_labels.csv                                  RSNA Pneumonia Detection Challenge
    prepared  manifest.json of pack format 3                            a set that `trainer prepare` has written

Label files may be compressed (.gz). `trainer.formats.tables` reads them: NIH's header has commas inside names, and messages
need line numbers. Patient IDs are not passed on.
"""

from trainer.data.layouts.choose import LABEL_FILES as LABEL_FILES
from trainer.data.layouts.image_tables import file_table as file_table
from trainer.data.layouts.image_tables import image_tables as image_tables
from trainer.data.layouts.image_tables import table_file as table_file
from trainer.data.layouts.read import read_file as read_file
from trainer.data.layouts.read import read_labels as read_labels
from trainer.data.layouts.read import read_raw_labels as read_raw_labels
from trainer.data.layouts.read import unread_notes as unread_notes
from trainer.data.layouts.source import Source as Source
