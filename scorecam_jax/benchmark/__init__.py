"""How fast Score-CAM is, beside the bare network and beside other packages."""
