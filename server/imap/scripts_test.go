package imap

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"mailform/server/store"
)

// TestScripts carries out the dialogues in testdata: one file for each family
// of commands, as in world.talk. Besides, a line "deliver MAILBOX FLAG ..."
// delivers to alice the message that stands in the lines behind it, each with a
// "|" ahead, "quota N" gives her a quota of N octets, and "quotas N M" gives her one
// of N messages and her domain one of M octets.
func TestScripts(t *testing.T) { runScripts(t) }

func runScripts(t *testing.T, change ...func(*Config, *Settings)) {
	files, err := filepath.Glob("testdata/*.imap")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".imap"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			change := append(change[:len(change):len(change)], func(_ *Config, s *Settings) { s.MaxMessageBytes = 100_000 })
			newWorld(t, change...).script(string(text))
		})
	}
}

func (w *world) script(text string) {
	w.Helper()
	lines := map[string]*line{}
	all := strings.Split(text, "\n")
	for i := 0; i < len(all); i++ {
		words := strings.Fields(all[i])
		switch {
		case len(words) > 1 && words[0] == "deliver":
			var message []string
			for i+1 < len(all) && strings.HasPrefix(all[i+1], "|") {
				i++
				message = append(message, strings.TrimPrefix(strings.TrimPrefix(all[i], "|"), " "))
			}
			w.deliver(words[1], strings.Join(message, "\n"), words[2:]...)
		case len(words) == 2 && words[0] == "quota":
			var n int64
			for _, c := range words[1] {
				n = n*10 + int64(c-'0')
			}
			if err := w.store.EnsureAccount(context.Background(), alice, n); err != nil {
				w.Fatal(err)
			}
		case len(words) == 3 && words[0] == "quotas":
			messages, err := strconv.ParseInt(words[1], 10, 64)
			octets, err2 := strconv.ParseInt(words[2], 10, 64)
			_, domain, _ := strings.Cut(alice, "@")
			q := store.Quotas{Messages: map[string]int64{alice: messages}, Domains: map[string]store.Quota{domain: {Bytes: octets}}}
			if err := errors.Join(err, err2, w.store.SetQuotas(context.Background(), q)); err != nil {
				w.Fatal(err)
			}
		default:
			w.say(lines, i+1, strings.TrimLeft(all[i], "\t "))
		}
	}
}
