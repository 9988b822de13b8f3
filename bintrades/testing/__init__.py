"""What plugin authors and our own tests share: an exchange on loopback (extra "simulator")."""
