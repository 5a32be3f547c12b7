package smtp

import (
	"errors"
	"fmt"

	"github.com/emersion/go-smtp"

	"mailform/server/route"
	"mailform/server/store"
)

// reply makes an answer. Nothing else than these is shown to the peer.
func reply(code int, enhanced string, format string, args ...any) *smtp.SMTPError {
	var e smtp.EnhancedCode
	if _, err := fmt.Sscanf(enhanced, "%d.%d.%d", &e[0], &e[1], &e[2]); err != nil {
		e = smtp.EnhancedCode{code / 100, 0, 0}
	}
	return &smtp.SMTPError{Code: code, EnhancedCode: e, Message: fmt.Sprintf(format, args...)}
}

var (
	replyShutdown     = reply(421, "4.3.2", "Shutting down, try again in a minute")
	replyAuthRequired = reply(530, "5.7.0", "Authentication required")
	replyBareCRLF     = reply(550, "5.6.0", "Message has a CR or LF of its own; lines end with CRLF (RFC 5321 2.3.8)")
	replyHeaderSize   = reply(552, "5.3.4", "Message header is too large")
	replyLoop         = reply(554, "5.4.6", "Mail is looping")
	replyNoFrom       = reply(550, "5.6.0", "Message needs one From field with the address it is from")
	replyAborted      = reply(451, "4.4.2", "Message did not arrive whole")
	replyFull         = reply(452, "4.3.1", "Storage is full, try again later")
	replyLocal        = reply(451, "4.3.0", "Local error, try again later")
)

// routeReply answers a recipient or sender that cannot be routed.
func routeReply(err error, address string) *smtp.SMTPError {
	switch {
	case errors.Is(err, route.ErrUnknown):
		return reply(550, "5.1.1", "<%s> is unknown here", address)
	case errors.Is(err, route.ErrDisabled):
		return reply(550, "5.2.1", "<%s> does not take mail any more", address)
	case errors.Is(err, route.ErrNotLocal):
		return reply(554, "5.7.1", "<%s> is not served here, and mail is not relayed", address)
	case errors.Is(err, route.ErrSyntax):
		return reply(553, "5.1.3", "That is not a mail address this server can take")
	}
	return replyLocal
}

// storeReply answers a message that the store did not take. A full mailbox is a
// temporary failure for other servers, who try again, and a final one for our
// users, who want to know at once.
func storeReply(err error, kind Kind) *smtp.SMTPError {
	switch {
	case errors.Is(err, store.ErrQuota) && kind == Submission:
		return reply(552, "5.2.2", "A recipient's mailbox is full")
	case errors.Is(err, store.ErrQuota):
		return reply(452, "4.2.2", "A recipient's mailbox is full")
	case errors.Is(err, store.ErrFull):
		return replyFull
	case errors.Is(err, store.ErrClosed):
		return replyShutdown
	}
	return replyLocal
}
