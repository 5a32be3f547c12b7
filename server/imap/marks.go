package imap

// mark is what the client was not told of a message yet.
type mark uint8

const (
	markChanged mark = 1 << iota // its flags changed
	markModSeq                   // only its modification sequence is news
	markGone                     // it was expunged

	markNews = markChanged | markModSeq
	markAny  = markNews | markGone
)

// markChunk is for how many messages marks are kept together.
const markChunk = 4096

// marks are those of the messages of a mailbox, by place. Where none is set they
// take no memory and are not looked at, so that news of one message costs little,
// however many there are.
type marks struct {
	chunks []*[markChunk]mark // nil: none is set; there may be fewer than messages
}

func (m *marks) at(i int) mark {
	if k := i / markChunk; k < len(m.chunks) && m.chunks[k] != nil {
		return m.chunks[k][i%markChunk]
	}
	return 0
}

// add sets marks of a message, beside those that it has.
func (m *marks) add(i int, v mark) {
	k := i / markChunk
	if k >= len(m.chunks) {
		m.chunks = append(m.chunks, make([]*[markChunk]mark, k+1-len(m.chunks))...)
	}
	if m.chunks[k] == nil {
		m.chunks[k] = new([markChunk]mark)
	}
	m.chunks[k][i%markChunk] |= v
}

// drop takes marks off a message.
func (m *marks) drop(i int, v mark) {
	if k := i / markChunk; k < len(m.chunks) && m.chunks[k] != nil {
		m.chunks[k][i%markChunk] &^= v
	}
}

// next returns the first place from i on that has one of some marks; -1: none has.
func (m *marks) next(i int, of mark) int {
	for k := i / markChunk; k < len(m.chunks); k++ {
		if c := m.chunks[k]; c != nil {
			for at := max(i-k*markChunk, 0); at < markChunk; at++ {
				if c[at]&of != 0 {
					return k*markChunk + at
				}
			}
		}
	}
	return -1
}

// remove takes the messages at some places out, which ascend; those behind them move up.
func (m *marks) remove(places []int) {
	if len(places) == 0 {
		return
	}
	gone := 0
	for i := m.next(places[0], markAny); i >= 0; i = m.next(i+1, markAny) {
		for gone < len(places) && places[gone] < i {
			gone++
		}
		v := m.at(i)
		m.drop(i, v)
		if gone == len(places) || places[gone] != i {
			m.add(i-gone, v)
		}
	}
}
