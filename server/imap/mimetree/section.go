package mimetree

// Find returns the part that an IMAP section path names, RFC 9051 6.4.5.1, or
// nil. The empty path is the message itself.
func (p *Part) Find(path []int) *Part {
	cur, leaf := p, false
	for i, n := range path {
		if leaf || n < 1 {
			return nil
		}
		container := cur
		if i > 0 {
			if cur.Message != nil {
				container = cur.Message
			} else if !cur.Multipart() {
				return nil
			}
		}
		switch {
		case container.Multipart():
			if n > len(container.Children) {
				return nil
			}
			cur = container.Children[n-1]
		case n == 1:
			// The only part of what is not a multipart is its body.
			cur = container
			leaf = cur.Message == nil
		default:
			return nil
		}
	}
	return cur
}
