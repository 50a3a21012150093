"""What programs ask over HTTP. Each route only translates to and from the parts below."""
