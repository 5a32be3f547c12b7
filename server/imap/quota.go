package imap

// quotaRoot is the one quota root, that of the whole account.
const quotaRoot = "User quota"

// getQuota implements GETQUOTA, RFC 9208 4.1.2.
func (s *session) getQuota(cmd *command) error {
	cmd.p.SP()
	root := cmd.p.AString()
	if err := cmd.p.End(); err != nil {
		return bad(err.Error())
	}
	if root != quotaRoot {
		return no("NONEXISTENT", "There is no such quota root")
	}
	return s.writeQuota()
}

// getQuotaRoot implements GETQUOTAROOT, RFC 9208 4.1.3.
func (s *session) getQuotaRoot(cmd *command) error {
	name, err := named(cmd)
	if err != nil {
		return err
	}
	s.out.Raw("* QUOTAROOT ")
	s.out.Mailbox(name)
	s.out.Byte(' ')
	s.out.Quoted(quotaRoot)
	s.out.CRLF()
	return s.writeQuota()
}

// setQuota implements SETQUOTA: quotas stand in the spec.
func (s *session) setQuota(*command) error { return no("NOPERM", "Quotas cannot be set here") }

// writeQuota writes a QUOTA response, in KiB. Without a limit nothing is listed.
func (s *session) writeQuota() error {
	used, _, err := s.store.Usage(s.ctx, s.account)
	if err != nil {
		return err
	}
	limit, err := s.store.Quota(s.ctx, s.account)
	if err != nil {
		return err
	}
	w := s.out
	w.Raw("* QUOTA ")
	w.Quoted(quotaRoot)
	w.Raw(" (")
	if limit > 0 {
		w.Raw("STORAGE ")
		w.Num(uint64(used+1023) / 1024)
		w.Byte(' ')
		w.Num(uint64(limit / 1024))
	}
	w.Raw(")")
	w.CRLF()
	return nil
}
