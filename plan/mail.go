package plan

import "strings"

// mailRule is what the plan itself knows about a kind of thing that carries
// mail, beyond what providers declare.
type mailRule struct {
	pattern string
	// phase orders deletes: mail stops being sent here before the server stops
	// answering, and what mail stands on goes last. Lower goes first.
	phase int
	// waits is set when a delete waits for what is created and changed: first
	// build up, then tear down. A person's access is taken away without waiting.
	waits bool
	// losing is the worst that a delete does to mail, whether or not it is protected.
	losing Risk
	// loss says in words what a delete means; %s is the address without its kind.
	loss string
	// whole says why asking to replace it means nothing; "" when it can be replaced.
	whole string
	// mail is the last segment of the sibling that says where its host's mail is. When
	// that is found on something that stays, the mail is not lost with this.
	mail string
}

// What there is no second of beside which a new one could be made.
const (
	wholeMailbox  = "a new one in its place would have no mail; to lose the mail, take it out of the spec, apply, and put it in again"
	wholeSettings = "it is a part of the server's settings, which every apply writes as a whole"
	wholeKey      = "what it has signed could no longer be verified; a new selector makes a new key beside it"
)

// mailRules is the one table of mail's order. The first match counts.
var mailRules = []mailRule{
	{pattern: "dns/*/mx", phase: 0, waits: true, losing: RiskInterrupts, loss: "other servers stop sending mail for this domain here"},
	{pattern: "dns/*/acme-challenge/*", phase: 1, waits: true},
	{pattern: "dns/*/a/*", phase: 1, waits: true, losing: RiskInterrupts},
	{pattern: "dns/*", phase: 1, waits: true},
	{pattern: "mailbox/*", phase: 2, losing: RiskLosesData, loss: "%s no longer receives mail", whole: wholeMailbox},
	{pattern: "alias/*", phase: 2, loss: "%s no longer receives mail", whole: wholeSettings},
	{pattern: "catch-all/*", phase: 2, loss: "mail to unknown recipients at %s is refused", whole: wholeSettings},
	{pattern: "cert/*", phase: 2, waits: true, losing: RiskInterrupts},
	{pattern: "server/*", phase: 2, waits: true, losing: RiskInterrupts, loss: "%s no longer serves mail", whole: wholeSettings},
	{pattern: "dkim/*", phase: 2, waits: true, whole: wholeKey},
	{pattern: "host/*/agent", phase: 2, waits: true, losing: RiskInterrupts, whole: wholeSettings},
	{pattern: "host/*/storage", phase: 2, waits: true, losing: RiskLosesData, whole: wholeSettings},
	{pattern: "host/*/instance", phase: 3, waits: true, losing: RiskLosesData, mail: "storage"},
	{pattern: "host/*/data-disk", phase: 3, waits: true, losing: RiskLosesData},
	{pattern: "host/*/address", phase: 3, waits: true, losing: RiskInterrupts},
	{pattern: "backup/*", phase: 3, waits: true, losing: RiskLosesData, loss: "goes only once it is empty, by hand; forget \"backup/NAME\" {} keeps it"},
	{pattern: "*", phase: 3, waits: true},
}

func mailRuleFor(a Address) mailRule {
	for _, r := range mailRules {
		if Match(r.pattern, a) {
			return r
		}
	}
	return mailRule{phase: 3, waits: true}
}

// riskOfDelete is the risk of deleting the thing at an address. A provider that
// protects a thing we have no rule for means that mail needs it.
func riskOfDelete(a Address, protected string) Risk {
	if r := mailRuleFor(a).losing; r != RiskNone || protected == "" {
		return r
	}
	return RiskInterrupts
}

// riskOfReplace is the risk of deleting the thing and making it again. What
// holds no data and is not protected can be replaced without a gap.
func riskOfReplace(a Address, protected, interrupts string) Risk {
	switch r := mailRuleFor(a).losing; {
	case r == RiskLosesData:
		return r
	case protected != "" || interrupts != "":
		return RiskInterrupts
	}
	return RiskNone
}

// spareMail lowers the risk of taking something away whose mail was seen elsewhere: a
// machine with its mail on a data disk that stays. What was not seen counts as lost.
func (b *builder) spareMail() {
	for _, n := range b.nodes {
		if n.change.Risk == RiskLosesData && b.mailStays(n) {
			n.change.Risk = RiskInterrupts
		}
	}
}

func (b *builder) mailStays(n *node) bool {
	rule, seg := mailRuleFor(n.addr), n.addr.Segments()
	if rule.mail == "" {
		return false
	}
	seg[len(seg)-1] = rule.mail
	mail := b.at[Addr(seg...)]
	if mail == nil || mail.have == nil || mail.home == nil || mail.home == n || !mail.home.ours() {
		return false
	}
	goes := mail.home.change.Action == Delete || mail.home.renewed()
	return !goes || mail.home.change.Blocked != nil
}

// lossInWords is the mail effect of a delete.
func lossInWords(a Address) string {
	_, name, _ := strings.Cut(string(a), "/")
	return strings.ReplaceAll(mailRuleFor(a).loss, "%s", name)
}

// domainOf returns the domain whose mail the thing at an address handles, "" for
// what serves several.
func domainOf(a Address) string {
	switch seg := a.Segments(); seg[0] {
	case "mailbox", "alias":
		if i := strings.LastIndexByte(string(a), '@'); i >= 0 {
			return string(a[i+1:])
		}
	case "catch-all", "dkim", "dns":
		if len(seg) > 1 {
			return seg[1]
		}
	}
	return ""
}
