"""What an exchange is to the collector, and the exchanges that there are."""
