package world

import (
	"errors"

	"mailform/providers/alicloud/alicloudsim"
	"mailform/providers/host/hostsim"
)

var _ alicloudsim.DiskMachine = (*machine)(nil)

// AttachDisk puts a data disk into the machine: the one with that serial number, as
// it came out of another machine, or a blank one.
func (m *machine) AttachDisk(serial string, sizeGiB int) error {
	d, err := m.world.disk(serial)
	if err != nil {
		return err
	}
	if err := d.Resize(int64(sizeGiB) << 30); err != nil {
		return err
	}
	return m.Host.AttachDisk(d)
}

// disk is the data disk with a serial number, of no size when it is new. Disks that are deleted are gone only
// with the world: nothing can find them any more.
func (w *World) disk(serial string) (*hostsim.Disk, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.disks[serial]
	if d == nil {
		var err error
		if from := w.cfg.From; from != nil && from.disks[serial] != nil {
			d, err = from.disks[serial].Clone()
		} else {
			d, err = hostsim.NewDisk(serial, 0)
		}
		if err != nil {
			return nil, err
		}
		w.disks[serial] = d
	}
	return d, nil
}

// copyDisks copies the disks of machines that are off.
func (w *World) copyDisks() (map[string]*hostsim.Disk, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]*hostsim.Disk{}
	for serial, d := range w.disks {
		c, err := d.Clone()
		if err != nil {
			return out, err
		}
		out[serial] = c
	}
	return out, nil
}

// destroyDisks deletes disks that no machine has any more.
func destroyDisks(disks map[string]*hostsim.Disk) error {
	var errs []error
	for _, d := range disks {
		errs = append(errs, d.Destroy())
	}
	return errors.Join(errs...)
}

// Close deletes what the snapshot holds beside its folder.
func (s *Snapshot) Close() error { return destroyDisks(s.disks) }
