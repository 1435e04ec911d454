"""Jobs on a cluster or on this machine: create, find, wait for, delete."""
