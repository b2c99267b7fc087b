"""Where things are unless somebody says otherwise."""

CONFIG_FILE = "/etc/dmssd/dmssd.toml"
STATE_DIR = "/var/lib/dmssd"
SOCKET = "/run/dmssd/dmssd.sock"
LAB_DIR = "/run/dmssd-lab"
