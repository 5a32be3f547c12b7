package main

import (
	"database/sql"
	"path/filepath"

	_ "modernc.org/sqlite"
)

type sqlite struct{ db *sql.DB }

func openSQLite(dir string) (engine, error) {
	db, err := sql.Open("sqlite", filepath.Join(dir, "sqlite")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=cache_size(-4096)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	_, err = db.Exec("CREATE TABLE IF NOT EXISTS x (k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID")
	return &sqlite{db}, err
}

func (s *sqlite) write(pairs []pair) error {
	tx, err := s.db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	put, err := tx.Prepare("INSERT OR REPLACE INTO x VALUES (?, ?)")
	if err != nil {
		return err
	}
	defer put.Close()
	for _, p := range pairs {
		if p.value == nil {
			_, err = tx.Exec("DELETE FROM x WHERE k = ?", p.key)
		} else {
			_, err = put.Exec(p.key, p.value)
		}
		if err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (s *sqlite) scan(prefix []byte, f func(k, v []byte)) error {
	end := append(append([]byte(nil), prefix...), 0xff, 0xff, 0xff, 0xff, 0xff)
	rows, err := s.db.Query("SELECT k, v FROM x WHERE k >= ? AND k < ? ORDER BY k", prefix, end)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var k, v sql.RawBytes
		if err := rows.Scan(&k, &v); err != nil {
			return err
		}
		f(k, v)
	}
	return rows.Err()
}

func (s *sqlite) close() error { return s.db.Close() }
