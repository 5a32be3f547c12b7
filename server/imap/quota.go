package imap

import "mailform/server/store"

// The quota roots: that of the account, and that of its domain, which all accounts
// of the domain share. The second is there when the domain has a limit.
const (
	accountRoot = "User quota"
	domainRoot  = "Domain quota"
)

func rootName(r store.QuotaRoot) string {
	if r.Domain == "" {
		return accountRoot
	}
	return domainRoot
}

// getQuota implements GETQUOTA, RFC 9208 4.1.2.
func (s *session) getQuota(cmd *command) error {
	cmd.p.SP()
	name := cmd.p.AString()
	if err := cmd.p.End(); err != nil {
		return bad(err.Error())
	}
	roots, err := s.store.QuotaRoots(s.ctx, s.account)
	if err != nil {
		return err
	}
	for _, r := range roots {
		if rootName(r) == name {
			s.writeQuota(r)
			return nil
		}
	}
	return no("NONEXISTENT", "There is no such quota root")
}

// getQuotaRoot implements GETQUOTAROOT, RFC 9208 4.1.3.
func (s *session) getQuotaRoot(cmd *command) error {
	name, err := named(cmd)
	if err != nil {
		return err
	}
	roots, err := s.store.QuotaRoots(s.ctx, s.account)
	if err != nil {
		return err
	}
	s.out.Raw("* QUOTAROOT ")
	s.out.Mailbox(name)
	for _, r := range roots {
		s.out.Byte(' ')
		s.out.Quoted(rootName(r))
	}
	s.out.CRLF()
	for _, r := range roots {
		s.writeQuota(r)
	}
	return nil
}

// setQuota implements SETQUOTA: quotas stand in the spec.
func (s *session) setQuota(*command) error { return no("NOPERM", "Quotas cannot be set here") }

// writeQuota writes a QUOTA response, RFC 9208 4.2.1: octets in KiB, and messages.
// What has no limit is not listed.
func (s *session) writeQuota(r store.QuotaRoot) {
	w := s.out
	w.Raw("* QUOTA ")
	w.Quoted(rootName(r))
	w.Raw(" (")
	if r.Limit.Bytes > 0 {
		w.Raw("STORAGE ")
		w.Num(uint64(r.Used.Bytes+1023) / 1024)
		w.Byte(' ')
		w.Num(uint64(r.Limit.Bytes / 1024))
	}
	if r.Limit.Messages > 0 {
		if r.Limit.Bytes > 0 {
			w.Byte(' ')
		}
		w.Raw("MESSAGE ")
		w.Num(uint64(r.Used.Messages))
		w.Byte(' ')
		w.Num(uint64(r.Limit.Messages))
	}
	w.Raw(")")
	w.CRLF()
}
