"""The programs that run models, each behind the interface in `base`."""
