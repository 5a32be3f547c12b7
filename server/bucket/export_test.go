package bucket

// ReadRole is readRole, for its fuzz test.
var ReadRole = readRole
