// Package specs is the language: it reads a stack's *.hcl files and gives a
// typed Spec with source ranges, or every diagnostic at once.
//
// It does no I/O of its own: files, environment and home folder come in through
// LoadOptions. It imports no other package of mailform.
package specs
