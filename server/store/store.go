// Package store keeps the mail: accounts' mailboxes, their messages and the
// delivery queue. What a method has accepted when it returns nil is durable.
//
// The truth is an append-only segmented log; the index in memory is a replay
// of it. Callers see only the Store interface, so that the engine can change.
package store

import (
	"context"
	"errors"
	"io"
	"time"
)

// Errors that callers map to protocol answers.
var (
	ErrNoMailbox     = errors.New("mailbox does not exist")
	ErrMailboxExists = errors.New("mailbox exists already")
	ErrNoMessage     = errors.New("message does not exist")
	ErrQuota         = errors.New("quota exceeded")
	ErrFull          = errors.New("storage is full") // new work is refused, old is safe
	ErrClosed        = errors.New("store is closed")
)

// UID, UIDValidity and ModSeq are IMAP's, RFC 9051 2.3.1 and RFC 7162.
type (
	UID    uint32
	ModSeq uint64
)

// BodyRef names a stored, immutable message body. A body is shared by all its recipients.
type BodyRef struct {
	Segment uint64
	Offset  int64
	Size    int64
}

// MailboxInfo describes one mailbox of an account.
type MailboxInfo struct {
	Name          string // UTF-8, '/' separates levels, INBOX is upper case
	UIDValidity   uint32
	UIDNext       UID
	HighestModSeq ModSeq
	Messages      uint32
	Unseen        uint32
	Deleted       uint32
	Bytes         int64
	SpecialUse    string // "\\Sent", "\\Drafts", "\\Trash", "\\Junk", "\\Archive" or ""
	Subscribed    bool
	ObjectID      string // RFC 8474
}

// Message is one message in a mailbox.
type Message struct {
	UID          UID
	ModSeq       ModSeq
	Flags        []string // system flags and keywords, canonical case, sorted: `\Seen`
	InternalDate time.Time
	SaveDate     time.Time
	Size         int64  // octets as a client sees it, prefix included
	Prefix       []byte // header lines added at delivery, ahead of the body; usually short
	Body         BodyRef
	ObjectID     string
}

// Delivery puts one body into mailboxes of accounts, all or none.
type Delivery struct {
	Body    io.Reader // CRLF line ends
	Size    int64     // -1 when unknown
	Targets []Target
	Queue   []QueueEntry // entries made durable in the same commit, sharing the body
}

// Target is one mailbox a Delivery goes to.
type Target struct {
	Account      string // full address of the mailbox's account
	Mailbox      string // created when missing
	Prefix       []byte // for example Return-Path, Delivered-To and Received lines
	Flags        []string
	InternalDate time.Time
}

// FlagOp is how UpdateFlags changes flags.
type FlagOp uint8

// The flag operations.
const (
	FlagsSet FlagOp = iota
	FlagsAdd
	FlagsRemove
)

// Event tells an open session what happened to its mailbox.
type Event struct {
	Mailbox  string
	New      []Message // appended, in UID order
	Changed  []Message // flags or modseq changed
	Expunged []UID
	Gone     bool // the mailbox was deleted or renamed away
}

// Snapshot is a mailbox at one moment. Messages are in UID order.
type Snapshot struct {
	Info     MailboxInfo
	Messages []Message
}

// QueueEntry is one outbound message for one destination domain.
type QueueEntry struct {
	ID         string // assigned by the store when ""
	From       string // envelope sender; "" for the null sender
	Recipients []string
	Domain     string
	Account    string // who submitted it; "" for the system
	Prefix     []byte // header lines ahead of the body: DKIM-Signature, Received
	Body       BodyRef
	Size       int64
	Queued     time.Time
	Attempts   int
	NextTry    time.Time
	LastError  string
	Hold       bool
}

// Store is a mail store. All methods may be called from many goroutines.
type Store interface {
	// EnsureAccount makes the account's INBOX and special-use mailboxes when missing.
	EnsureAccount(ctx context.Context, account string, quotaBytes int64) error
	// Usage returns the octets and messages an account holds.
	Usage(ctx context.Context, account string) (bytes int64, messages int64, err error)

	Mailboxes(ctx context.Context, account string) ([]MailboxInfo, error)
	CreateMailbox(ctx context.Context, account, name, specialUse string) (MailboxInfo, error)
	DeleteMailbox(ctx context.Context, account, name string) error
	RenameMailbox(ctx context.Context, account, from, to string) error
	Subscribe(ctx context.Context, account, name string, subscribed bool) error

	// Deliver is durable when it returns: the caller may answer 250.
	Deliver(ctx context.Context, d Delivery) ([]Message, error)
	// Append is IMAP's; it returns the message and its mailbox's UIDVALIDITY.
	Append(ctx context.Context, account, mailbox string, body io.Reader, size int64, flags []string, date time.Time) (Message, uint32, error)

	// Open returns the mailbox as it is now and a watch that starts right after it.
	Open(ctx context.Context, account, mailbox string) (Snapshot, Watch, error)
	// Read opens a message: its prefix followed by its body.
	Read(ctx context.Context, m Message) (io.ReadCloser, error)
	UpdateFlags(ctx context.Context, account, mailbox string, uids []UID, op FlagOp, flags []string) ([]Message, error)
	Copy(ctx context.Context, account, from string, uids []UID, to string) (src, dst []UID, uidValidity uint32, err error)
	Move(ctx context.Context, account, from string, uids []UID, to string) (src, dst []UID, uidValidity uint32, err error)
	// Expunge removes the given messages; nil uids means all with \Deleted.
	Expunge(ctx context.Context, account, mailbox string, uids []UID) ([]UID, error)

	// Queue returns all entries, oldest NextTry first.
	Queue(ctx context.Context) ([]QueueEntry, error)
	// UpdateQueue records an attempt; entries are matched by ID.
	UpdateQueue(ctx context.Context, e QueueEntry) error
	RemoveQueue(ctx context.Context, id string) error
	// OpenQueued opens a queued message: its prefix followed by its body.
	OpenQueued(ctx context.Context, e QueueEntry) (io.ReadCloser, error)

	Close() error
}

// Watch delivers events of one mailbox in commit order. Events are kept, never
// dropped, until they are taken or the watch is closed.
type Watch interface {
	// Ready is signalled when Take would return something.
	Ready() <-chan struct{}
	Take() []Event
	Close()
}
