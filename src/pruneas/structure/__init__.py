"""What can change in a network, and the network at other widths."""
