package apply

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if folder := os.Getenv("MAILFORM_TEST_LOCK"); folder != "" {
		holdLock(folder)
		return
	}
	goleak.VerifyTestMain(m)
}
