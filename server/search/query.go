package search

// word is one of a query.
type word struct {
	text string
	at   int // how many words after the query's first
	gap  gap // to the one before
	// first and last say that nothing stands before and behind it in the query: it
	// may be the end, and the beginning, of a longer word.
	first, last bool
}

// query is a folded text taken apart.
type query struct {
	words  []word
	fields Field
	exact  bool // a body in which the words follow each other has the text
}

func newQuery(fields Field, text string) query {
	q := query{fields: fields, exact: true}
	at := 0
	behind := eachRun(text, apart, func(r run) {
		run, first, last, g := text[r.from:r.to], r.from == 0, r.to == len(text), r.gap
		if g == apart && !first {
			q.exact = false // what stands there is not in the index
		}
		if r.kind == dense {
			single := run
			eachPair(run, func(pair string) {
				if pair != single { // a pair is never a part of a longer word
					first, last = false, false
				}
				q.words = append(q.words, word{pair, at, g, first, last})
				at++
				g = joined
			})
			return
		}
		if r.chars > overlap { // it may be in a word of which the index has pieces
			run, last, q.exact = run[:skip(run, 0, overlap)], true, false
		}
		q.words = append(q.words, word{run, at, g, first, last})
		at++
	})
	q.exact = q.exact && behind == joined
	return q
}
