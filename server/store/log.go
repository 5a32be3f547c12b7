package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"mailform/server/store/seal"
)

// Options tune a Log. The zero value is ready for use.
type Options struct {
	Logger *slog.Logger     // default: discarded
	Now    func() time.Time // default time.Now
	FS     FS               // default: the machine's file system
	Rand   io.Reader        // markers of segments; default crypto/rand

	Version string // of this mailformd, for whoever finds the store too new

	// SegmentBytes is where a log segment ends; default 64 MiB. A batch is not split.
	SegmentBytes int64
	// MemoryBody is the largest body that is held in memory until its commit,
	// in octets; default 256 KiB. A larger one streams to a segment of its own.
	MemoryBody int64
	// CheckpointBytes is how much log is written between two checkpoints, and so
	// about how much is read at start; default 256 MiB.
	CheckpointBytes int64
	// ReserveBytes is the free space below which new messages are refused, so
	// that there is still room to record what frees space; default 64 MiB,
	// negative is none.
	ReserveBytes int64
	// IdleMessages is how many messages of mailboxes that nobody uses stay in memory,
	// where the file system lets the index be in a file; default 100,000, about
	// 18 MB. Unused for five minutes, they go, too.
	IdleMessages int64
	// FlushMessages is how many messages may change before the index file is brought
	// up to date; default 16,384. That is also done each minute.
	FlushMessages int64
	// Rebuild makes the index file anew, whatever it says.
	Rebuild bool
	// Changed is told after each commit of accounts to which messages came, or of
	// which some have gone. It must return at once; may be nil.
	Changed func(account string, added []*Message, removed bool)
	// Compress has new bodies compressed where that saves octets; see SetCompress.
	Compress bool
	// Root is the key that the store's keyring is wrapped by. A store without one needs
	// none; one with it does not open without, nor with another: a *seal.RootError.
	Root *seal.Key
	// Encrypt has new bodies encrypted, each for the accounts that it is delivered to;
	// see SetEncrypt.
	Encrypt bool
	// Keyless opens an encrypted store without its keys: all can be checked, and of
	// messages what is not encrypted can be read.
	Keyless bool
	// Copied says that the directory is a copy of a store that went on after it
	// was made. Numbers that may have been given out since (UIDs, modseqs, those
	// of mailboxes) are passed over, so that no client takes a new message for
	// one that it knows.
	Copied bool
}

// Log is the Store of one machine: see the package comment.
type Log struct {
	fs  FS
	dir string
	opt Options

	lock io.Closer
	ix   *index
	seg  *segments

	requests  chan *request
	closing   chan struct{}
	closeOnce sync.Once
	closeErr  error
	loopDone  chan struct{}

	// The commit loop's own.
	active *segment // nil: the next commit starts one
	last   uint64   // id of the last log segment
	end    int64    // where the last log segment ends
	torn   bool     // refused octets may lie behind end; the next segment says so
	lsn    uint64
	found  uint64 // the last transaction when it was opened; does not change
	batch  uint64
	buf    []byte
	// sealNext has the next commit start a segment.
	sealNext  bool
	written   int64 // octets since the last checkpoint was started
	unflushed int64 // octets since the last flush of the index file
	touched   int   // messages changed since then
	// gathered is how many requests the last batch had.
	gathered int

	staged   atomic.Int64  // octets in memory that wait for AppendStaged
	reserved atomic.Uint64 // object ids
	lender   lender
	compress atomic.Bool
	pack     packer
	vault    vault
	format   atomic.Int64 // as it is noted
	formats  sync.Mutex   // held while the note of the format is written

	idle     idle
	mended   time.Time     // when the index file was made anew last, or could not be
	woken    chan struct{} // the index file is to be brought up to date
	keepDone chan struct{}

	outage      Outage // of the disk, for new work
	quotas      quotas
	checkpoints checkpoints
	damage      damageList
	compaction  compactions
	sealing     sealing
	forward     forwards
}

var _ Store = (*Log)(nil)

// Open opens the store in dir, making it when it is missing. Another process
// that has it open is ErrInUse.
func Open(dir string, o Options) (*Log, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.FS == nil {
		o.FS = osFS{}
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	setDefault(&o.SegmentBytes, 64<<20)
	setDefault(&o.MemoryBody, 256<<10)
	setDefault(&o.CheckpointBytes, 256<<20)
	setDefault(&o.ReserveBytes, 64<<20)
	setDefault(&o.IdleMessages, 100_000)
	setDefault(&o.FlushMessages, 16<<10)

	l := &Log{
		fs: o.FS, dir: dir, opt: o, ix: newIndex(), outage: Outage{Logger: o.Logger, Now: o.Now, What: "store"},
		requests: make(chan *request),
		closing:  make(chan struct{}),
		loopDone: make(chan struct{}),
		woken:    make(chan struct{}, 1),
		keepDone: make(chan struct{}),
		idle:     idle{boxes: map[*mailbox]idleBox{}},
		sealing:  sealing{clear: map[uint64]bool{}, stuck: map[uint64]bool{}},
		forward:  forwards{tables: map[uint64]*forwardTable{}, watches: map[*watch]time.Time{}},
	}
	l.seg = &segments{fs: o.FS, dir: filepath.Join(dir, "log"), rand: o.Rand, next: 1,
		open: map[uint64]*segment{}, kind: map[uint64]segmentKind{}, doomed: map[uint64]bool{}, held: map[uint64]int{}}
	l.checkpoints.dir = filepath.Join(dir, "checkpoint")
	for _, d := range []string{dir, l.seg.dir, l.checkpoints.dir} {
		if err := l.fs.MkdirAll(d); err != nil {
			return nil, fmt.Errorf("open the store: %w", err)
		}
	}
	lock, err := l.fs.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("open the store in %s: %w", dir, err)
	}
	l.lock = lock
	if err = l.checkFormat(); err == nil {
		err = l.openVault()
	}
	if err == nil {
		err = l.recover()
	}
	if err == nil && o.Compress {
		err = l.SetCompress(true)
	}
	if err == nil && o.Encrypt && !o.Keyless {
		err = l.SetEncrypt(true)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the store in %s: %w", dir, err), l.seg.close(), lock.Close())
	}
	l.found = l.lsn
	l.quotas.count(func(yield func(string, Quota) bool) {
		for name, a := range l.ix.accounts {
			if !yield(name, Quota{a.bytes, a.count}) {
				return
			}
		}
	})
	go l.loop()
	if l.ix.file.Load() != nil {
		go l.keepIndex()
	} else {
		close(l.keepDone)
	}
	o.Logger.Info("store: opened", "dir", dir, "accounts", len(l.ix.accounts), "queued", len(l.ix.queue),
		"log_segments", len(l.seg.ids(kindLog)), "body_segments", len(l.seg.ids(kindBody)), "damage", len(l.Damage()))
	return l, nil
}

func setDefault(v *int64, d int64) {
	if *v == 0 {
		*v = d
	}
}

// Close ends the commit loop, brings the index file up to date or writes a
// checkpoint, so that the next start is quick, and gives the directory back. What was accepted is durable already.
func (l *Log) Close() error {
	l.closeOnce.Do(func() {
		close(l.closing)
		<-l.loopDone
		<-l.keepDone
		l.checkpoints.wait()
		l.compaction.mu.Lock() // a run ends when it finds the loop closed
		defer l.compaction.mu.Unlock()
		err := l.lastFlush()
		if l.torn {
			// The next start must not take for durable what was refused.
			err = errors.Join(err, l.ready())
		}
		if l.active != nil {
			err = errors.Join(err, l.seg.release(l.active))
		}
		if l.ix.file.Load() != nil {
			err = errors.Join(err, l.ix.file.Load().close())
		}
		l.closeErr = errors.Join(err, l.seg.close(), l.lock.Close())
	})
	return l.closeErr
}

// lastFlush leaves the index on the disk; all else has ended.
func (l *Log) lastFlush() error {
	if f := l.ix.file.Load(); f != nil && (l.unflushed > 0 || f.behind.Load()) {
		at := l.place()
		err := l.flushIndex(&at)
		if err == nil {
			return nil
		}
		l.opt.Logger.Warn("store: the index file could not be brought up to date; a checkpoint is written instead", "err", err)
	} else if f != nil {
		return nil
	}
	if l.written == 0 {
		return nil
	}
	return l.checkpoint()
}

func (l *Log) closed() bool {
	select {
	case <-l.closing:
		return true
	default:
		return false
	}
}

// Damage is a part of the store that could not be read as it was written.
type Damage struct {
	File   string // name within the store's directory
	Offset int64
	Length int64
	What   string
	// Tail says that it was in the last batch, which a crash may tear: unless
	// the disk itself failed, nothing in it had been acknowledged.
	Tail bool
}

func (d Damage) String() string {
	return fmt.Sprintf("%s, octets %d to %d: %s", d.File, d.Offset, d.Offset+d.Length, d.What)
}

type damageList struct {
	mu   sync.Mutex
	list []Damage
}

// Damage returns what was found damaged since the store was opened.
func (l *Log) Damage() []Damage {
	l.damage.mu.Lock()
	defer l.damage.mu.Unlock()
	return append([]Damage(nil), l.damage.list...)
}

func (l *Log) report(d Damage) {
	l.damage.mu.Lock()
	l.damage.list = append(l.damage.list, d)
	l.damage.mu.Unlock()
	level := slog.LevelError
	if d.Tail {
		level = slog.LevelWarn
	}
	l.opt.Logger.Log(context.Background(), level, "store: damage", "file", d.File, "offset", d.Offset, "length", d.Length, "what", d.What, "tail", d.Tail)
}
