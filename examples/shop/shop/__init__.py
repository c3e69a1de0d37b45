"""Shop: takes orders, keeps stock, and gets prices from another service."""
