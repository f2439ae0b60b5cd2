//! Runs guests. Knows neither the store nor HTTP servers: it declares a host trait that the node implements.
