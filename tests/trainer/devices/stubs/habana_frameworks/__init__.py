"""A stand-in for the vendor's package, to the contract that its sources show."""
