package account

import (
	"fmt"
	"strings"

	"mailform/server/manifest"
)

// Account is someone who may log in.
type Account struct {
	Address    string // full address of the mailbox, lower case; the store's account name
	Name       string
	QuotaBytes int64      // 0: no limit
	hash       string     // PHC
	keys       *scramKeys // made together with hash; nil when there are none
}

// Directory is the set of accounts of one manifest. It does not change.
type Directory struct {
	byAddress map[string]Account
	all       []Account
	noSCRAM   bool
}

// NewDirectory makes the accounts of m. A mailbox without a password hash in m
// uses the one in c; with neither it exists but nobody can log in to it.
// Removed (retained) mailboxes are not accounts.
func NewDirectory(m *manifest.Manifest, c *manifest.Credentials) (*Directory, error) {
	d := &Directory{byAddress: map[string]Account{}, noSCRAM: m.NoSCRAM}
	for _, domain := range m.Domains {
		for _, mb := range domain.Mailboxes {
			address := strings.ToLower(mb.Local + "@" + domain.Name)
			if _, twice := d.byAddress[address]; twice {
				return nil, fmt.Errorf("mailbox %s is listed twice", address)
			}
			hash := mb.PasswordHash
			var keys *scramKeys
			if hash == "" && c != nil {
				hash = c.Hashes[address]
				if !m.NoSCRAM {
					keys, _ = parseKeys(c.SCRAM[address]) // those of another version are made anew at a login
				}
			}
			if hash != "" {
				if err := CheckHash(hash); err != nil {
					return nil, fmt.Errorf("password hash of %s: %w", address, err)
				}
			}
			a := Account{Address: address, Name: mb.Name, QuotaBytes: mb.QuotaBytes, hash: hash, keys: keys}
			d.byAddress[address] = a
			d.all = append(d.all, a)
		}
	}
	return d, nil
}

// Lookup finds the account that logs in as login: the full address of its
// mailbox in any case. Aliases and sub-addresses are not logins.
func (d *Directory) Lookup(login string) (Account, bool) {
	a, ok := d.byAddress[strings.ToLower(login)]
	return a, ok
}

// Accounts returns every account in the manifest's order. The caller does not change it.
func (d *Directory) Accounts() []Account { return d.all }
