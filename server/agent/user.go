package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"mailform/server/manifest"
)

// User is the account the service runs as; its group may read keys.
const User = "mailform"

// userHome tells the account that we made from one of the same name.
const userHome = "/var/lib/mailform"

// sysusersConf declares the service's user, sysusers.d(5).
const sysusersConf = `u ` + User + ` - "mailform mail server" ` + userHome + ` /usr/sbin/nologin
`

// userItem is the service's user.
type userItem struct{ a *Agent }

func (u *userItem) name() string { return "user " + User }

func (u *userItem) check() (string, error) {
	if uid, gid := u.a.ids(); uid < 0 || gid < 0 {
		return "does not exist", nil
	}
	return "", nil
}

func (u *userItem) apply(ctx context.Context) error {
	if err := u.a.Systemd.Sysusers(ctx, u.a.Layout.SysusersFile()); err != nil {
		return err
	}
	if diff, _ := u.check(); diff != "" {
		return fmt.Errorf("systemd-sysusers has not made the user %s", User)
	}
	return nil
}

// homeOf returns a user's home in a passwd(5) file.
func homeOf(file, name string) (string, bool) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Split(strings.TrimRight(line, "\n"), ":"); len(f) == 7 && f[0] == name {
			return f[5], true
		}
	}
	return "", false
}

// storeItem is the folder with the mail. On a disk of another machine, or after a
// removal that kept it, it and all in it has another owner than the service. The
// folder itself gets its owner last: until then all of it is wrong.
type storeItem struct{ dirItem }

func (s *storeItem) apply(ctx context.Context) error {
	if uid, gid := s.wantIDs(); fileExists(s.path) {
		if err := give(s.path, uid, gid); err != nil {
			return err
		}
	}
	return s.dirItem.apply(ctx)
}

// give changes the owner of everything inside a folder.
func give(dir string, uid, gid int) error {
	return walk(dir, func(path string, _ fs.DirEntry) error {
		if path == dir {
			return nil
		}
		return os.Lchown(path, uid, gid)
	})
}

// removeUser takes the service's user away. Mail that stays becomes root's first:
// the user's number may be another's tomorrow.
func (a *Agent) removeUser(ctx context.Context, purge bool, out *manifest.Removed) error {
	uid, gid := a.ids()
	if uid < 0 && gid < 0 {
		return nil
	}
	for _, dir := range []string{a.Layout.StoreDir(), a.Layout.StateDir(), a.Layout.MovedStateDir()} {
		if purge {
			break
		}
		// The folder first, unlike storeItem: what is not all root's is taken up as such.
		if err := os.Lchown(dir, a.uid, os.Getegid()); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		if err := give(dir, a.uid, os.Getegid()); err != nil {
			return err
		}
	}
	if home, ok := homeOf(a.Layout.PasswdFile(), User); ok && home != userHome || a.takenOver(manifest.ForeignUser) != nil {
		return nil
	}
	if err := a.Systemd.RemoveUser(ctx, User); err != nil {
		out.Kept = append(out.Kept, fmt.Sprintf("user %s: %v", User, err))
	}
	return a.groupBack(ctx)
}
