package adopt

import (
	"slices"
	"testing"
)

func TestWhatIsTrueOfAllHostsIsNotedOnce(t *testing.T) {
	var c completion
	for range 2 {
		c.note("the relay's password is a secret")
		c.note("%d disks", 2)
	}
	if want := []string{"the relay's password is a secret", "2 disks"}; !slices.Equal(c.notes, want) {
		t.Errorf("%q", c.notes)
	}
}
