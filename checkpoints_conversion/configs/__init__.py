"""What the configuration files of other libraries say, as `Facts`."""
