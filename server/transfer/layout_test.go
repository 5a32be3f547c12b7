package transfer

import (
	"path/filepath"
	"testing"
)

// Folders within folders, as Dovecot keeps them with LAYOUT=fs, mbsync with SubFolders
// Verbatim, and offlineimap: also with the INBOX beside them, and with mailboxes in
// folders that are none themselves.
func TestMaildirLayouts(t *testing.T) {
	for name, inbox := range map[string]string{"fs": ".", "verbatim": "INBOX"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			put := func(folder, file, text string) {
				t.Helper()
				write(t, filepath.Join(dir, folder, file), text, day)
			}
			put(inbox, "cur/1.a:2,S", "a: 1\n\n1\n")
			put("Work", "new/1.a", "a: w\n\nw\n")
			put("Work/B&APw-ro", "cur/1.a:2,RT", "a: b\n\nb\n")
			put("Lists/Go/2020", "cur/1.a:2,F", "a: g\n\ng\n")
			put("Gel&APY-scht.alt", "cur/1.a:2,", "a: d\n\nd\n") // a dot is a dot here
			s := open(t)
			im := &Importer{Server: &direct{Store: s}, Account: alice}
			c, err := im.Run(t.Context(), Maildir{Dir: dir})
			must(t, err)
			if c.Imported != 5 {
				t.Errorf("%+v", c)
			}
			const date = "2020-01-02 03:04:05 "
			same(t, content(t, s), map[string][]string{
				"INBOX":         {date + `\Seen "a: 1\r\n\r\n1\r\n"`},
				"Work":          {date + ` "a: w\r\n\r\nw\r\n"`},
				"Work/Büro":     {date + `\Answered,\Deleted "a: b\r\n\r\nb\r\n"`},
				"Lists":         {},
				"Lists/Go":      {},
				"Lists/Go/2020": {date + `\Flagged "a: g\r\n\r\ng\r\n"`},
				"Gelöscht.alt":  {date + ` "a: d\r\n\r\nd\r\n"`},
			})
			if c, err = im.Run(t.Context(), Maildir{Dir: dir}); err != nil || c.Imported != 0 || c.Present != 5 {
				t.Errorf("the second time: %+v, %v", c, err)
			}
		})
	}
}
