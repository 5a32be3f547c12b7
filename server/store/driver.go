package store

// What every driver has in common, wherever it keeps the mail.

// CleanName brings a mailbox name into the form in which it is kept: INBOX in upper
// case, also as the first level of others. ErrName says why one is refused.
func CleanName(name string) (string, error) { return cleanName(name) }

// Flags brings flags into the case in which they are kept, sorted and each once. Those
// that cannot be stored are left out, \Recent among them.
func Flags(list []string) []string { return canonicalList(list) }

// Room says whether wanted fits beside what is used of a quota: nil, or the *QuotaError
// that names the account there is no room for and the domain whose quota it is.
func (q Quota) Room(used, wanted Quota, account, domain string) error {
	return q.room(used, wanted, account, domain)
}

// SpecialMailboxes calls yield for each mailbox that every account has, with its special
// use, RFC 6154.
func SpecialMailboxes(yield func(name, use string) bool) {
	for _, s := range specialMailboxes {
		if !yield(s.name, s.use) {
			return
		}
	}
}
