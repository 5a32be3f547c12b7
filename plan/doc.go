// Package plan is the pure core of mailform: addresses, desired and observed
// resources, their difference, the execution graph and its renderers.
//
// Nothing in it does I/O, reads a clock or draws randomness: the same spec and
// the same observed world always give byte-identical plans. It imports only
// specs, and plan/style for its terminal renderer. Build is the way in; read its
// passes in the order it names them. The Provider interface is declared here,
// beside the data it carries, so that providers and apply can meet without
// importing each other.
package plan
