"""Networks: encoders, decoders, and the modules that join them."""
