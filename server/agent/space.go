package agent

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

// freeBytes is the room for whoever is not root, in the file system of a folder.
func freeBytes(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("statfs %s: %w", dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// xfsGeometry is XFS_IOC_FSGEOMETRY_V1, ioctl_xfs_fsgeometry(2): a structure of 112
// bytes with the block size at 0 and the number of data blocks at 32, in the
// machine's byte order.
const (
	xfsGeometry     = 0x80705864
	xfsGeometrySize = 112
)

// xfsBytes is how much of its disk a mounted XFS covers. The superblock on the
// disk lags behind after the file system grew, until the log is written back.
func xfsBytes(dir string) (int64, error) {
	f, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var g [xfsGeometrySize]byte
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), xfsGeometry, uintptr(unsafe.Pointer(&g))); errno != 0 {
		return 0, fmt.Errorf("ask for the size of the xfs at %s: %w", dir, errno)
	}
	return int64(binary.NativeEndian.Uint64(g[32:])) * int64(binary.NativeEndian.Uint32(g[0:])), nil
}
