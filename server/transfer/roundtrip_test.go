package transfer

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mailform/server/store"
	"mailform/server/store/seal"
)

// What was exported and is imported elsewhere is the same: octets, flags, keywords,
// dates and mailboxes, with names that file systems and formats do not like.
func TestExportAndBack(t *testing.T) {
	t.Parallel()
	name := rapid.Custom(func(t *rapid.T) string {
		level := rapid.OneOf(
			rapid.SampledFrom([]string{"Work", "work", "Spam", "Sent Items", "mbox", "cur", "new", "tmp", ".hidden", "..", ".", "a.b", "x.mbox", "x.sbd", "x.msf", "x.gz", ".mbox", "&", "&AC4-", "Büro", "发票 2020", "~a", `q"\`, " blank ", "INBOX", "_", "courierimapkeywords", "mailform-folders.json"}),
			rapid.Map(rapid.IntRange(1, 90), func(n int) string { return strings.Repeat("长", n) }),
		)
		return strings.Join(rapid.SliceOfN(level, 1, 3).Draw(t, "levels"), "/")
	})
	line := rapid.OneOf(
		rapid.SampledFrom([]string{"", "From here", "From a@x Sat Jan  4 03:04:05 2020", ">From", ">>From x", "Status: RO", "X-Status: D", "X-Keywords: no", "Content-Length: 3", "X-IMAP: 1 2", "X-Mozilla-Status: 0008", "X-Gmail-Labels: Inbox",
			"X-Mailform-Export: octets=1 date=x", " goes on", "Subject: ü", "\xff\x00", "bare\rCR", "CR\r", "\r", "."}),
		rapid.StringMatching(`[A-Z][a-z]{0,9}: [a-z ]{0,40}`),
	)
	text := rapid.Custom(func(t *rapid.T) string {
		s := strings.Join(rapid.SliceOfN(line, 0, 12).Draw(t, "lines"), "\r\n")
		if rapid.Bool().Draw(t, "ended") && s != "" {
			s += "\r\n"
		}
		return s
	})
	flag := rapid.OneOf(rapid.SampledFrom([]string{`\Seen`, `\Answered`, `\Flagged`, `\Draft`, `\Deleted`, "$Forwarded", "work", "$label1", "&ZeVnLIqe-"}), rapid.Map(rapid.IntRange(1, 40), func(n int) string { return fmt.Sprintf("k%d", n) }))
	for kind, encrypted := range map[string][2]bool{"maildir": {true, false}, "mbox": {false, true}} { // there, and back
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			open := func(encrypted bool) *store.Log {
				options := store.Options{ReserveBytes: -1}
				if encrypted {
					key, err := seal.NewKey(rand.Reader)
					must(t, err)
					options.Root, options.Encrypt = &key, true
				}
				options.FS = hasty{store.Machine()}
				s, err := store.Open(t.TempDir(), options)
				must(t, err)
				t.Cleanup(func() { must(t, s.Close()) })
				return s
			}
			from, back := open(encrypted[0]), open(encrypted[1])
			account := 0
			rapid.Check(t, func(rt *rapid.T) {
				account++
				who := fmt.Sprintf("%d@example.org", account)
				must(t, from.EnsureAccount(t.Context(), who, 0))
				must(t, back.EnsureAccount(t.Context(), who, 0))
				var list []store.Incoming
				for _, box := range rapid.SliceOfN(name, 1, 4).Draw(rt, "mailboxes") {
					list = append(list, store.Incoming{Mailbox: box})
					for range rapid.IntRange(0, 3).Draw(rt, "messages") {
						date := time.Unix(rapid.Int64Range(1, 4e9).Draw(rt, "date"), 0)
						flags := rapid.SliceOfNDistinct(flag, 0, 30, rapid.ID).Draw(rt, "flags")
						list = append(list, store.Incoming{Mailbox: box, Body: strings.NewReader(text.Draw(rt, "text")), Size: -1, Flags: flags, InternalDate: date})
					}
				}
				_, err := from.Import(t.Context(), who, list)
				must(t, err)
				var frames bytes.Buffer
				must(t, Send(t.Context(), from, who, &frames))
				dir := filepath.Join(t.TempDir(), "out")
				var sink Sink
				var source Source = Maildir{Dir: dir}
				if kind == "mbox" {
					source = Mbox{Path: dir}
					sink, err = NewMboxSink(dir)
				} else {
					sink, err = NewMaildirSink(dir)
				}
				must(t, err)
				if _, err := Export(t.Context(), &frames, sink, nil); err != nil {
					rt.Fatal(err)
				}
				if _, err := (&Importer{Server: &direct{Store: back}, Account: who}).Run(t.Context(), source); err != nil {
					rt.Fatal(err)
				}
				got, want := contentOf(t, back, who), contentOf(t, from, who)
				for _, c := range []map[string][]string{got, want} {
					for box := range c { // two of one moment may change places
						slices.Sort(c[box])
					}
				}
				same(rt, got, want)
			})
		})
	}
}

// hasty is the machine's file system without the waiting for its disk: there are
// hundreds of commits here, and no power cut.
type hasty struct{ store.FS }

func (h hasty) Create(name string) (store.File, error) {
	f, err := h.FS.Create(name)
	return hastyFile{f}, err
}

func (h hasty) Open(name string) (store.File, error) {
	f, err := h.FS.Open(name)
	return hastyFile{f}, err
}

func (hasty) SyncDir(string) error { return nil }

type hastyFile struct{ store.File }

func (hastyFile) Sync() error { return nil }
