package session

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"time"

	"mailform/apply"
	"mailform/providers/acme"
)

// answers is a file of answers that need not be asked for again for a while, in
// the person's cache folder. Whatever is wrong with it, the question is asked.
type answers struct {
	path string
	now  func() time.Time
}

type storedAnswer struct {
	Until  time.Time       `json:"until"`
	Answer json.RawMessage `json:"answer"`
}

// maxAnswers bounds what is read of the file.
const maxAnswers = 4 << 20

// answers is the cache of this run, nil when there is no place for one. A rehearsal,
// whose state is not in the stack's folder, leaves nothing behind.
func (s *Session) answers() acme.Answers {
	if s.opts.StateDir != "" {
		return nil
	}
	dir := s.env.Getenv("XDG_CACHE_HOME")
	if !filepath.IsAbs(dir) {
		if s.env.Home == "" {
			return nil
		}
		dir = filepath.Join(s.env.Home, ".cache")
	}
	return answers{filepath.Join(dir, "mailform", "renewals.json"), s.env.Now}
}

func (a answers) read() map[string]storedAnswer {
	all := map[string]storedAnswer{}
	info, err := os.Stat(a.path)
	if err != nil || info.Size() > maxAnswers {
		return all
	}
	text, err := os.ReadFile(a.path)
	if err != nil || json.Unmarshal(text, &all) != nil {
		return map[string]storedAnswer{}
	}
	return all
}

// Load implements acme.Answers. An answer that is kept for longer than any may be
// is of a clock that was wrong.
func (a answers) Load(key string) ([]byte, bool) {
	got, ok := a.read()[key]
	now := a.now()
	if !ok || !now.Before(got.Until) || got.Until.Sub(now) > 24*time.Hour {
		return nil, false
	}
	return got.Answer, true
}

// Store implements acme.Answers. Of two runs at the same time one may lose its
// answers, which costs questions.
func (a answers) Store(fresh []acme.Answer) {
	all, now := a.read(), a.now()
	maps.DeleteFunc(all, func(_ string, s storedAnswer) bool { return !now.Before(s.Until) })
	for _, f := range fresh {
		all[f.Key] = storedAnswer{f.Until, f.Text}
	}
	text, err := json.Marshal(all)
	if err != nil || os.MkdirAll(filepath.Dir(a.path), 0o700) != nil {
		return
	}
	_ = apply.Replace(apply.OS{}, a.path, text)
}
