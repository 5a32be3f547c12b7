// Package store keeps the mail: accounts' mailboxes, their messages and the
// delivery queue. What a method has accepted when it returns nil is durable.
//
// The truth is an append-only segmented log with checkpoints; the index is a replay
// of it, in a file that may be lost and, as far as it is in use, in memory. Callers see only the Store interface, so that the engine can change;
// storetest holds every engine to the same behaviour.
//
// Log is the engine for one machine. One goroutine gathers the transactions
// that wait, writes them with one write, makes them durable with one fdatasync,
// applies them to the index and answers. A body is written once for all its
// recipients and never rewritten; a large one streams to a segment of its own
// before its transaction is queued, so that no slow client and no large message
// holds up the others. What follows from that:
//
//   - Accounts and mailboxes are in memory, messages while a session or an
//     operation has their mailbox open and for some time after: about 45 octets
//     each, as they are in the file (see List). Deliveries need no mailbox to be in memory. Where the file system is not
//     a machine's (see Mapped), all of the index is in memory.
//   - The octets of an expunged message leave the disk with the segment they are
//     in: at once for a large message, which has a segment to itself; for small
//     ones when all their neighbours have gone, or when Compact has copied the few
//     that are left elsewhere.
//   - Erase removes an account from every file, reads everything again and says what
//     it has found.
//   - Bodies may be compressed, in blocks of 64 KiB with a checksum each: a part of a
//     large message is read without the rest. Sizes and quotas are those of the
//     messages, whatever they take.
//   - Bodies may be encrypted, with a key each that is wrapped for the accounts that
//     have it: see server/store/seal. Erasing an account drops its key.
//   - Only the last batch of the log can be torn by a crash, and nothing in it
//     was acknowledged. A torn tail is cut. Damage elsewhere costs the records it
//     hit, is reported by Damage and in the log, and leaves the rest readable.
//
// It imports nothing of mailform but server/store/kv and server/store/seal.
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
	ErrHasChildren   = errors.New("mailbox has mailboxes below it")
	ErrName          = errors.New("mailbox name is not allowed")
	ErrNoMessage     = errors.New("message does not exist")
	ErrQuota         = errors.New("quota exceeded")
	ErrFlags         = errors.New("a message cannot have so many flags") // see MaxFlags
	ErrFull          = errors.New("storage is full")                     // new work is refused, old is safe
	ErrClosed        = errors.New("store is closed")
	ErrDamaged       = errors.New("stored data is damaged")
	ErrInUse         = errors.New("store is in use by another process")
)

// UID, UIDValidity and ModSeq are IMAP's, RFC 9051 2.3.1 and RFC 7162.
type (
	UID    uint32
	ModSeq uint64
)

// BodyRef names a stored, immutable run of octets: a message body, shared by all
// its recipients, or a prefix. The zero BodyRef is empty.
type BodyRef struct {
	Segment uint64
	Offset  int64
	Size    int64 // octets as they are read
	// Stored is how many octets a coded record takes; 0 when they are stored as they
	// are. It only counts what is used: reading asks the record.
	Stored int64
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

// Message is one message in a mailbox. It is never changed once the store has
// handed it out: a change of flags makes a new one.
type Message struct {
	UID          UID
	ModSeq       ModSeq
	Flags        []string  // system flags and keywords, canonical case, sorted: `\Seen`; shared, read-only
	InternalDate time.Time // to the second, in the zone that it came with
	SaveDate     time.Time
	Size         int64   // octets as a client sees it, prefix included
	Head         BodyRef // header lines added at delivery (Target.Prefix), ahead of the body
	Body         BodyRef
	ObjectID     string // RFC 8474 EMAILID; a copy keeps it
}

// Delivery puts one body into mailboxes of accounts, all or none.
type Delivery struct {
	Body    io.Reader // CRLF line ends
	Size    int64     // -1 when unknown
	Targets []Target
	// Queue holds entries made durable in the same commit. One whose Body is
	// zero shares the delivery's. The IDs the store assigns are set in it.
	Queue []QueueEntry
}

// Target is one mailbox a Delivery goes to.
type Target struct {
	Account      string // full address of the mailbox's account, which must have been ensured
	Mailbox      string // created when missing
	Prefix       []byte // for example Return-Path, Delivered-To and Received lines
	Flags        []string
	InternalDate time.Time // zero: now
}

// Incoming is a message that was kept elsewhere and comes with its history.
type Incoming struct {
	Mailbox      string    // created and subscribed when missing
	Body         io.Reader // CRLF line ends; nil only makes the mailbox
	Size         int64     // -1 when unknown
	Flags        []string  // those that cannot be stored are left out
	InternalDate time.Time // zero: now
	// ObjectID is the message's, 1 to 255 of A-Z, a-z, 0-9, _ and - (RFC 8474 4);
	// "" lets the store make one. Who imports finds by it what is there already.
	ObjectID string
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
	Mailbox string
	// ModSeq is the mailbox's highest afterwards.
	ModSeq   ModSeq
	New      []*Message  // appended, in UID order
	Changed  []FlagState // ascending UIDs
	Expunged []UID
	Renamed  bool // the mailbox is called Mailbox from now on
	Gone     bool // the mailbox was deleted
}

// FlagState is what a message's flags are now, and since when.
type FlagState struct {
	UID    UID
	ModSeq ModSeq
	Flags  []string // as in Message
}

// Snapshot is a mailbox at one moment. The List is the caller's.
type Snapshot struct {
	Info     MailboxInfo
	Messages List
	Keywords []string // in use now or not long ago, sorted
}

// FlagUpdate is what a change of flags has come to.
type FlagUpdate struct {
	Messages []FlagState // those asked for that exist, as they are afterwards
	Modified []UID       // passed over: changed after the condition's modseq
	ModSeq   ModSeq      // of the messages that changed; 0 when none did
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
	Size       int64 // octets as they will be sent, prefix included; set by the store
	Queued     time.Time
	Attempts   int
	NextTry    time.Time
	LastError  string
	Hold       bool
}

// Store is a mail store. All methods may be called from many goroutines.
//
// Calls that change messages take a Box: one with a UIDVALIDITY is looked up in the
// commit itself, and when that mailbox is no more they change nothing and return a
// *GoneError with it.
type Store interface {
	// EnsureAccount makes the account's INBOX and special-use mailboxes when
	// missing, and sets its quota; 0 is no quota.
	EnsureAccount(ctx context.Context, account string, quotaBytes int64) error
	// EmptyAccount removes all mailboxes of an account with all their messages, INBOX
	// too, in one commit; EnsureAccount makes new ones. It is nothing to an account
	// that is not there.
	EmptyAccount(ctx context.Context, account string) error
	// Usage returns the octets and messages an account holds.
	Usage(ctx context.Context, account string) (bytes int64, messages int64, err error)
	// Quota returns the octets an account may hold; 0 is no quota.
	Quota(ctx context.Context, account string) (int64, error)
	// SetQuotas sets the limits on domains and on numbers of messages, in the place of
	// all that were set before. They hold until the store is closed.
	SetQuotas(ctx context.Context, q Quotas) error
	// QuotaRoots returns what an account's mail counts for: the account itself and,
	// when that has a limit, its domain.
	QuotaRoots(ctx context.Context, account string) ([]QuotaRoot, error)

	// Mailboxes returns all of them, INBOX first and the others sorted by name.
	Mailboxes(ctx context.Context, account string) ([]MailboxInfo, error)
	Mailbox(ctx context.Context, account, name string) (MailboxInfo, error)
	CreateMailbox(ctx context.Context, account, name, specialUse string) (MailboxInfo, error)
	DeleteMailbox(ctx context.Context, account, name string) error
	RenameMailbox(ctx context.Context, account, from, to string) error
	// Subscribe also takes names of mailboxes that do not exist, RFC 9051 6.3.7.
	Subscribe(ctx context.Context, account, name string, subscribed bool) error
	// Subscriptions returns all subscribed names, sorted.
	Subscriptions(ctx context.Context, account string) ([]string, error)

	// Deliver is durable when it returns: the caller may answer 250. One target
	// over its quota refuses the whole delivery with a *QuotaError naming the
	// account, so that a caller who can answer each recipient apart may try again
	// without it. The messages are in the order of the targets.
	Deliver(ctx context.Context, d Delivery) ([]Message, error)
	// Append is IMAP's; it returns the message and its mailbox's UIDVALIDITY.
	Append(ctx context.Context, account, mailbox string, body io.Reader, size int64, flags []string, date time.Time) (Message, uint32, error)
	// Stage takes a message's octets in for AppendStaged, which puts all of them
	// at the end of a mailbox or none, RFC 3502. With replaced it also removes that
	// message, in the same commit; ErrNoMessage when it is not there any more.
	Stage(ctx context.Context, account string, mailbox Box, body io.Reader, size int64) (Staged, error)
	AppendStaged(ctx context.Context, account string, mailbox Box, msgs []StagedMessage, replaced *Replaced) ([]Message, uint32, error)

	// Import puts messages that were kept elsewhere into an account, all or none,
	// with UIDs in their order. Bodies are read in that order; the quota holds for
	// them, too. It returns the messages; nil where there was only a mailbox.
	Import(ctx context.Context, account string, list []Incoming) ([]*Message, error)

	// Open returns the mailbox as it is now and a watch that starts right after it.
	Open(ctx context.Context, account, mailbox string) (Snapshot, Watch, error)
	// WatchAccount tells what happens in an account's mailboxes from now on.
	WatchAccount(ctx context.Context, account string) (*AccountWatch, error)
	// Read opens a message of an account: its prefix followed by its body. A message that was
	// handed out is good for that while a watch from before is open, and for a day,
	// wherever the store has moved its octets since; after that it may be
	// ErrNoMessage, and another look at the mailbox has it by its UID. The reader is also an
	// io.ReaderAt and an io.Seeker over the same octets. Octets that do not match
	// their checksum are never returned: the read fails with ErrDamaged.
	Read(ctx context.Context, account string, m Message) (io.ReadCloser, error)
	// UpdateFlags returns the messages of uids that exist as they are afterwards;
	// those that already were as wanted keep their modseq.
	UpdateFlags(ctx context.Context, account string, mailbox Box, uids []UID, op FlagOp, flags []string) ([]FlagState, error)
	// UpdateFlagsIf passes over messages whose modseq is above unchanged, RFC 7162 3.1.3.
	UpdateFlagsIf(ctx context.Context, account string, mailbox Box, uids []UID, op FlagOp, flags []string, unchanged ModSeq) (FlagUpdate, error)
	// Vanished returns the UIDs expunged from a mailbox since modseq, ascending.
	// complete is false when some are no longer known, RFC 7162 3.2.10.
	Vanished(ctx context.Context, account string, mailbox Box, since ModSeq) (uids []UID, complete bool, err error)
	// Metadata returns the annotations of a mailbox, or of the account itself for
	// "", sorted by name; SetMetadata changes them, all or none, and fails with
	// ErrMetadata beyond the bounds.
	Metadata(ctx context.Context, account, mailbox string) ([]MetadataEntry, error)
	SetMetadata(ctx context.Context, account, mailbox string, entries []MetadataEntry) error
	// Copy and Move pass over uids that do not exist; src and dst correspond.
	Copy(ctx context.Context, account string, from Box, uids []UID, to Box) (src, dst []UID, uidValidity uint32, err error)
	Move(ctx context.Context, account string, from Box, uids []UID, to Box) (src, dst []UID, uidValidity uint32, err error)
	// Expunge removes those of the given messages that have \Deleted at that
	// moment, RFC 4315 2.1; nil uids means all that have it.
	Expunge(ctx context.Context, account string, mailbox Box, uids []UID) ([]UID, error)
	// ExpungeOld removes those of the given messages that came into the mailbox before
	// a moment (their SaveDate, RFC 8514), whatever their flags.
	ExpungeOld(ctx context.Context, account string, mailbox Box, uids []UID, before time.Time) ([]UID, error)

	// Queue returns all entries, oldest NextTry first.
	Queue(ctx context.Context) ([]QueueEntry, error)
	// UpdateQueue records an attempt; entries are matched by ID. Prefix, Body and
	// Size stay as they were. ErrNoMessage when there is no such entry.
	UpdateQueue(ctx context.Context, e QueueEntry) error
	RemoveQueue(ctx context.Context, id string) error
	// OpenQueued opens a queued message: its prefix followed by its body.
	OpenQueued(ctx context.Context, e QueueEntry) (io.ReadCloser, error)

	Close() error
}

// Watch delivers events of one mailbox in commit order. Events are kept, never
// dropped, until they are taken or the watch is closed; when very many wait they are
// folded into fewer that come to the same.
type Watch interface {
	// Ready is signalled when Take would return something.
	Ready() <-chan struct{}
	Take() []Event
	// Notify has f called whenever Take would return something; nil ends that. f
	// runs in the commit's way and must return at once.
	Notify(f func())
	Close()
}
