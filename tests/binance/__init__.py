"""What is expected of bintrades.binance."""
