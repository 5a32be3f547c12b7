package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"mailform/server/manifest"
)

// A user or a group with the service's name that mailform did not make. Whoever asks
// for it lets the service run as that user, with its number; it is never deleted.

// accountLine returns a name's line of a passwd(5) or group(5) file, split at its colons.
func accountLine(file, name string) []string {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Split(strings.TrimRight(line, "\n"), ":"); f[0] == name {
			return f
		}
	}
	return nil
}

// foreignAccount is the user or group in the way of ours; nil for none.
func (a *Agent) foreignAccount() *manifest.Foreign {
	user, group := accountLine(a.Layout.PasswdFile(), User), accountLine(a.Layout.GroupFile(), User)
	out := &manifest.Foreign{Name: manifest.ForeignUser, Path: a.Layout.PasswdFile(), What: manifest.ForeignUser}
	switch {
	case len(user) == 7:
		if user[5] == userHome {
			return nil
		}
		out.Line = fmt.Sprintf("user %s, uid %s, gid %s, home %s", User, user[2], user[3], user[5])
		out.SHA256 = manifest.SHA256([]byte(strings.Join(user, ":")))
	case len(group) == 4 && !(&fileItem{a: a, path: a.Layout.SysusersFile()}).ours():
		// A systemd-sysusers that was cut off may have left ours, but only after our file was there.
		out.Name, out.What, out.Path = manifest.ForeignGroup, manifest.ForeignGroup, a.Layout.GroupFile()
		out.Line = fmt.Sprintf("group %s, gid %s", User, group[2])
		out.SHA256 = manifest.SHA256([]byte(strings.Join(group[:3], ":")))
	default:
		return nil
	}
	if a.takenOver(out.Name) != nil {
		return nil
	}
	return out
}

// accountItem is that no account of somebody else's is in the way. It comes before
// the file that declares ours.
type accountItem struct{ a *Agent }

func (u *accountItem) name() string { return "account " + User }

func (u *accountItem) check() (string, error) {
	f := u.a.foreignAccount()
	if f == nil {
		return "", nil
	}
	switch asked, err := u.a.asked(f); {
	case err != nil:
		return "", err
	case !asked:
		return "", u.a.foreign(f.Name, "there is a "+f.Line)
	}
	return "is taken over as it is: " + f.Line, nil
}

// apply notes that the account stays when the service goes.
func (u *accountItem) apply(context.Context) error {
	f := u.a.foreignAccount()
	if f == nil {
		return nil
	}
	r := takenRecord{Name: f.Name, Path: f.Path, SHA256: f.SHA256}
	if gid, _, ok := lookupID(u.a.Layout.GroupFile(), User); ok {
		r.GID = gid
	}
	return u.a.noteTaken(r)
}

// groupBack makes a group that was taken over again, when it went with the user.
func (a *Agent) groupBack(ctx context.Context) error {
	r := a.takenOver(manifest.ForeignGroup)
	if r == nil {
		return nil
	}
	if _, _, there := lookupID(a.Layout.GroupFile(), User); there {
		return nil
	}
	file := filepath.Join(a.Layout.ConfigDir(), "group.conf")
	if err := writeFile(file, fmt.Appendf(nil, "g %s %d\n", User, r.GID), 0o644, -1); err != nil {
		return err
	}
	return errors.Join(a.Systemd.Sysusers(ctx, file), os.Remove(file))
}
