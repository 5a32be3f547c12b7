package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"mailform/plan"
)

// approvedName is the saved plan that a run under its hash alone carries out. It
// is there until that plan is done, so that the same hash can finish it.
const approvedName = "approved.plan"

// maxApprovedBytes bounds what is read; 5,000 mailboxes take about 3 MiB.
const maxApprovedBytes = 256 << 20

// Made tells what earlier runs of a saved plan did before they were cut short;
// nothing when there were none, or the last of them came to its end.
func (s *State) Made(saved *plan.Plan) plan.Made {
	s.mu.Lock()
	defer s.mu.Unlock()
	begun, ids := map[string]bool{}, map[plan.Address]string{}
	for op, step := range s.journal.steps[plan.Hash(saved)] {
		begun[op] = step.done
		for a, outputs := range step.outputs {
			if id := outputs["id"].Str(); id != "" {
				ids[a] = id
			}
		}
	}
	return saved.Steps(begun, ids)
}

// KeepApproved keeps a plan that was approved by its hash, in place of the one kept before.
func (s *State) KeepApproved(p *plan.Plan) error {
	f, err := replaceFile(s.dir.fs, filepath.Join(s.dir.path, approvedName), plan.Encode(p))
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return fmt.Errorf("keep the approved plan: %w", err)
	}
	return nil
}

// KeptApproved returns the kept plan when it has that hash and a run of it was
// cut short, nil otherwise.
func (s *State) KeptApproved(hash string) *plan.Plan {
	s.mu.Lock()
	begun := len(s.journal.steps[hash]) > 0
	s.mu.Unlock()
	if !begun {
		return nil
	}
	data, err := readBounded(s.dir.fs, filepath.Join(s.dir.path, approvedName), maxApprovedBytes)
	if err != nil {
		return nil
	}
	p, err := plan.Decode(data)
	if err != nil || plan.Hash(p) != hash {
		return nil
	}
	return p
}

// dropApproved forgets the kept plan: it is done.
func (s *State) dropApproved() error {
	err := s.dir.fs.Remove(filepath.Join(s.dir.path, approvedName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
