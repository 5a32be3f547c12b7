package agent

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// content is what a disk holds, as far as its first and last bytes tell.
type content struct {
	kind  string // "ext4", "xfs", "btrfs", "LVM physical volume", …; "" for nothing
	label string // of a file system
	uuid  string // of a file system, lower case with dashes
	bytes int64  // that a file system covers
}

func (c content) String() string {
	if c.label != "" {
		return fmt.Sprintf("%s %q", c.kind, c.label)
	}
	return c.kind
}

// signature is a magic number at a place of a disk.
type signature struct {
	kind   string
	offset int64 // from the end when it is negative
	magic  string
}

// signatures are those of what a person may have on a disk, from the kernel's and
// util-linux's sources. The more specific stand first: LVM and LUKS leave the
// boot sector alone, a GPT has an MBR in front of it.
var signatures = []signature{
	{"LUKS volume", 0, "LUKS\xba\xbe"},
	{"LVM physical volume", 512, "LABELONE"},
	{"LVM physical volume", 0, "LABELONE"},
	{"LVM physical volume", 1024, "LABELONE"},
	{"LVM physical volume", 1536, "LABELONE"},
	{"RAID member", 0, raidMagic},    // md 1.1
	{"RAID member", 4096, raidMagic}, // md 1.2; see raidAtEnd for the others
	{"swap space", 4086, "SWAPSPACE2"},
	{"swap space", 4086, "SWAP-SPACE"},
	{"swap space", 65526, "SWAPSPACE2"}, // 64 KiB pages
	{"xfs", 0, "XFSB"},
	{"btrfs", 65536 + 64, "_BHRfS_M"},
	{"ext4", 1024 + 56, "\x53\xef"},
	{"f2fs", 1024, "\x10\x20\xf5\xf2"},
	{"bcachefs", 4096 + 24, "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"},
	{"bcache", 4096 + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"},
	{"reiserfs", 65536 + 52, "ReIsEr"},
	{"jfs", 32768, "JFS1"},
	{"ISO 9660 image", 32769, "CD001"},
	{"squashfs", 0, "hsqs"},
	{"NTFS", 3, "NTFS    "},
	{"exFAT", 3, "EXFAT   "},
	{"FAT", 54, "FAT1"},
	{"FAT", 82, "FAT32"},
	{"GPT partition table", 512, "EFI PART"},
	{"GPT partition table", 4096, "EFI PART"}, // 4 KiB sectors
	{"GPT partition table", -512, "EFI PART"}, // the second copy
	{"partition table", 510, "\x55\xaa"},
}

// blankSpan is how much of both ends of a disk must be zero for it to be blank.
const blankSpan = 1 << 20

// errUnknownContent says that a disk is not blank, though nothing on it is known.
var errUnknownContent = errors.New("data of an unknown kind")

// probe says what a disk of size bytes holds. The error is errUnknownContent when it
// is neither blank nor anything that is known.
func probe(r io.ReaderAt, size int64) (content, error) {
	head, err := span(r, 0, min(blankSpan, size))
	if err != nil {
		return content{}, err
	}
	tail, err := span(r, max(0, size-blankSpan), min(blankSpan, size))
	if err != nil {
		return content{}, err
	}
	for _, s := range signatures {
		if s.in(head, tail) {
			return describe(s.kind, head), nil
		}
	}
	if raidAtEnd(tail, size) {
		return content{kind: "RAID member"}, nil
	}
	if !zero(head) || !zero(tail) {
		return content{}, errUnknownContent
	}
	return content{}, nil
}

// raidMagic is md's, little-endian 0xa92b4efc.
const raidMagic = "\xfc\x4e\x2b\xa9"

// raidAtEnd looks for the superblocks of md 0.90, in the last whole 64 KiB, and
// 1.0, 8 KiB before the end.
func raidAtEnd(tail []byte, size int64) bool {
	start := size - int64(len(tail))
	for _, at := range []int64{size&^0xffff - 0x10000 - start, (size>>9-16)&^7<<9 - start} {
		if at >= 0 && at+int64(len(raidMagic)) <= int64(len(tail)) && string(tail[at:at+int64(len(raidMagic))]) == raidMagic {
			return true
		}
	}
	return false
}

func span(r io.ReaderAt, at, n int64) ([]byte, error) {
	b := make([]byte, n)
	if _, err := r.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

func (s signature) in(head, tail []byte) bool {
	b, at := head, s.offset
	if at < 0 {
		b, at = tail, int64(len(tail))+at
	}
	return at >= 0 && at+int64(len(s.magic)) <= int64(len(b)) && string(b[at:at+int64(len(s.magic))]) == s.magic
}

func zero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// describe reads the superblock of the file systems that mailform uses.
func describe(kind string, head []byte) content {
	c := content{kind: kind}
	switch {
	case kind == "ext4" && len(head) >= 2048:
		sb := head[1024:]
		le := binary.LittleEndian
		incompat := le.Uint32(sb[96:])
		blocks, block := int64(le.Uint32(sb[4:])), int64(1024)<<min(le.Uint32(sb[24:]), 6)
		if incompat&0x80 != 0 { // INCOMPAT_64BIT
			blocks |= int64(le.Uint32(sb[336:])&0x7fffff) << 32
		}
		if incompat&0x40 == 0 { // no extents: ext2 or ext3
			c.kind = "ext2 or ext3"
		}
		c.bytes, c.uuid, c.label = blocks*block, dashed(sb[104:120]), text(sb[120:136])
	case kind == "xfs" && len(head) >= 512:
		be := binary.BigEndian
		c.bytes = int64(be.Uint64(head[8:])&(1<<47-1)) * int64(be.Uint32(head[4:])&0x1ffff)
		c.uuid, c.label = dashed(head[32:48]), text(head[108:120])
	}
	return c
}

func text(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return strings.ToValidUTF8(s, "?")
}

func dashed(b []byte) string {
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
