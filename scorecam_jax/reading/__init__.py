"""Reading what people have: pictures, annotations and labels."""
