package imap

import "mailform/server/search"

// casemap brings text into the form that is compared.
func casemap(s string) string { return search.Fold(s) }
