"""Methods whose steps look at a whole array, such as the weights of a layer."""
