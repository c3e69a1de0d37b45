"""A shop: takes orders, keeps stock, asks another service for prices."""
