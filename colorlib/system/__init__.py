"""What a computer needs and a lecture does not: folders, devices and processes, COCO, the photo cache, whole files."""

# ruff: noqa: I001 (three lines, not fifteen)
from .atomic import remove_leftovers, replacing, write_text, write_whole
from .cache import PhotoCache
from .coco import download_coco, find_coco
from .distributed import all_reduce_sum, broadcast_from_main, main_process_first, process_group, rank, world_size
from .environment import available_cores, cache_dir, data_dir, describe_environment, free_memory, kaggle_input
from .environment import outputs_dir, pick_device, pick_precision, platform_name, print_environment, repository_dir
from .environment import used_memory
from .signals import stop_as_ctrl_c_does
