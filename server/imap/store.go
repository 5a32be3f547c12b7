package imap

import (
	"context"
	"io"

	"mailform/server/store"
)

// Store is what the engine needs of a mail store; store.Log has it. All methods
// may be called from many goroutines. Errors are those of package store.
type Store interface {
	// QuotaRoots returns what an account's mail counts for, the account itself first.
	QuotaRoots(ctx context.Context, account string) ([]store.QuotaRoot, error)

	// Mailboxes are sorted by name, INBOX first.
	Mailboxes(ctx context.Context, account string) ([]store.MailboxInfo, error)
	Mailbox(ctx context.Context, account, name string) (store.MailboxInfo, error)
	CreateMailbox(ctx context.Context, account, name, specialUse string) (store.MailboxInfo, error)
	DeleteMailbox(ctx context.Context, account, name string) error
	RenameMailbox(ctx context.Context, account, from, to string) error
	Subscribe(ctx context.Context, account, name string, subscribed bool) error
	Subscriptions(ctx context.Context, account string) ([]string, error)

	// Open returns the mailbox as it is now and a watch that starts right after it.
	Open(ctx context.Context, account, mailbox string) (store.Snapshot, store.Watch, error)
	// WatchAccount tells what happens in an account's mailboxes from now on.
	WatchAccount(ctx context.Context, account string) (*store.AccountWatch, error)
	// Read opens a message; the reader is also an io.ReaderAt.
	Read(ctx context.Context, account string, m store.Message) (io.ReadCloser, error)
	// Metadata returns the annotations of a mailbox, or of the account for "".
	Metadata(ctx context.Context, account, mailbox string) ([]store.MetadataEntry, error)
	SetMetadata(ctx context.Context, account, mailbox string, entries []store.MetadataEntry) error
	// Vanished returns the UIDs expunged since modseq, ascending; complete is
	// false when some are no longer known.
	Vanished(ctx context.Context, account string, mailbox store.Box, since store.ModSeq) (uids []store.UID, complete bool, err error)

	// Stage takes a message's octets in, for AppendStaged, which puts all of them
	// at the end of a mailbox or none. With replaced it also removes that message.
	Stage(ctx context.Context, account string, mailbox store.Box, body io.Reader, size int64) (store.Staged, error)
	AppendStaged(ctx context.Context, account string, mailbox store.Box, msgs []store.StagedMessage, replaced *store.Replaced) ([]store.Message, uint32, error)
	// UpdateFlagsIf passes over messages whose modseq is above unchanged.
	UpdateFlagsIf(ctx context.Context, account string, mailbox store.Box, uids []store.UID, op store.FlagOp, flags []string, unchanged store.ModSeq) (store.FlagUpdate, error)
	Copy(ctx context.Context, account string, from store.Box, uids []store.UID, to store.Box) (src, dst []store.UID, uidValidity uint32, err error)
	Move(ctx context.Context, account string, from store.Box, uids []store.UID, to store.Box) (src, dst []store.UID, uidValidity uint32, err error)
	Expunge(ctx context.Context, account string, mailbox store.Box, uids []store.UID) ([]store.UID, error)
}
