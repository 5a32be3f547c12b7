package lock

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"mailform/plan"
)

// How the lock is kept in PostgreSQL.
//
// It is an advisory lock of the session, on a key made of the stack's name: the
// server gives it back by itself when the connection ends, however it ends. A
// row of the table mailform_lock beside it says who holds it, and counts the
// epochs. Only who holds the advisory lock writes the row.
//
// Losing the connection is losing the lock, so while nothing is asked the
// connection is read from: its end is noticed at once. A pooler that shares
// connections between transactions (PgBouncer in transaction mode) would lose
// the lock silently; every renewal therefore asks the server whether this very
// session holds it.

// URLVariable is where the database's URL is taken from when the spec has none.
const URLVariable = "MAILFORM_LOCK_URL"

// connectTimeout bounds connecting; patienceWithOurselves is how long the server
// may take to notice that an earlier process of ours is gone.
const (
	connectTimeout        = 15 * time.Second
	patienceWithOurselves = 10 * time.Second
)

type postgresLock struct {
	Config
	connect *pgconn.Config
	key     int64

	mu   sync.Mutex
	held *session // nil while we do not hold it
}

func newPostgres(c Config) (plan.SharedLock, error) {
	connect, err := connectConfig(c)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte("mailform-lock-v1\x00" + c.Stack))
	return &postgresLock{Config: c, connect: connect, key: int64(binary.BigEndian.Uint64(sum[:8]))}, nil
}

// connectConfig reads the database's URL. The server's certificate is verified
// unless the URL says otherwise by itself; a socket of this machine needs none.
func connectConfig(c Config) (*pgconn.Config, error) {
	text := strings.TrimSpace(c.Spec.URL)
	if text == "" {
		text = strings.TrimSpace(c.Getenv(URLVariable))
	}
	u, err := url.Parse(text)
	// The URL holds a password, so no error here repeats any of it.
	bad := &plan.Error{
		Class: plan.ErrSpec, Code: "MF5501", Step: "read the URL of the lock's database", Got: "it is not a URL like postgres://mailform@db.acme.example/mailform",
		Fix: "set url in the spec's lock block, or " + URLVariable + "; the password may be in PGPASSWORD or ~/.pgpass",
	}
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		if text == "" {
			bad.Got = "there is none"
		}
		return nil, bad
	}
	if q := u.Query(); !q.Has("sslmode") && c.Getenv("PGSSLMODE") == "" {
		q.Set("sslmode", "verify-full")
		u.RawQuery = q.Encode()
	}
	connect, err := pgconn.ParseConfig(u.String())
	if err != nil {
		bad.Got = "the database library does not understand it, or what the PG… variables or files add to it"
		return nil, bad
	}
	connect.ConnectTimeout = connectTimeout
	if c.Dial != nil {
		connect.DialFunc = c.Dial
		// Names are for the dialer to resolve: it may be a proxy's.
		connect.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	}
	connect.RuntimeParams["application_name"] = "mailform"
	if t := connect.TLSConfig; t != nil && t.RootCAs == nil {
		t.RootCAs = c.Roots
	}
	for _, f := range connect.Fallbacks {
		if t := f.TLSConfig; t != nil && t.RootCAs == nil {
			t.RootCAs = c.Roots
		}
	}
	return connect, nil
}

func (p *postgresLock) Name() string {
	return "the database " + p.connect.Database + " at " + p.connect.Host
}

// Close ends the session, and with it a lock that is still held.
func (p *postgresLock) Close() {
	p.mu.Lock()
	s := p.held
	p.held = nil
	p.mu.Unlock()
	if s != nil {
		s.close()
	}
}

// Acquire implements plan.SharedLock.
func (p *postgresLock) Acquire(ctx context.Context, h plan.Holder) (plan.Lease, error) {
	conn, err := p.open(ctx)
	if err != nil {
		return plan.Lease{}, err
	}
	lease, err := p.take(ctx, conn, h)
	if err != nil {
		hangUp(conn)
		return plan.Lease{}, p.failure("take", err)
	}
	s := watched(conn)
	p.mu.Lock()
	p.held = s
	p.mu.Unlock()
	lease.Gone = s.gone
	return lease, nil
}

func (p *postgresLock) take(ctx context.Context, conn *pgconn.PgConn, h plan.Holder) (plan.Lease, error) {
	if err := p.table(ctx, conn); err != nil {
		return plan.Lease{}, err
	}
	for begun := p.Now(); ; {
		free, err := p.tryLock(ctx, conn)
		if err != nil {
			return plan.Lease{}, err
		}
		if free {
			break
		}
		held, _, err := p.look(ctx, conn)
		switch {
		case err != nil:
			return plan.Lease{}, err
		case held == nil:
			continue // given back just now
		case !held.Holder.From(h) || p.Now().Sub(begun) > patienceWithOurselves:
			return plan.Lease{}, plan.LockedError(p.Name(), *held)
		}
		// That process is dead; the server is about to notice.
		if err := p.Sleep(ctx, 100*time.Millisecond); err != nil {
			return plan.Lease{}, err
		}
	}
	l := plan.Lease{ID: newID(), Holder: h, TTL: plan.LeaseTTL}
	var err error
	l.Epoch, err = p.next(ctx, conn, l.ID, h)
	return l, err
}

// next counts an epoch and writes who holds the lock, "" for nobody.
func (p *postgresLock) next(ctx context.Context, conn *pgconn.PgConn, id string, h plan.Holder) (int64, error) {
	holder, err := json.Marshal(h)
	if err != nil {
		return 0, err
	}
	rows, err := query(ctx, conn, `insert into mailform_lock (stack, epoch, id, holder) values ($1, 1, $2, $3)
		on conflict (stack) do update set epoch = mailform_lock.epoch + 1, id = excluded.id, holder = excluded.holder
		returning epoch`, p.Stack, id, string(holder))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(rows[0][0], 10, 64)
}

// table makes the table when it is not there. Two who do so at once get in each
// other's way; then it is there.
func (p *postgresLock) table(ctx context.Context, conn *pgconn.PgConn) error {
	rows, err := query(ctx, conn, `select to_regclass('mailform_lock') is not null`)
	if err != nil || rows[0][0] == "t" {
		return err
	}
	_, err = query(ctx, conn, `create table if not exists mailform_lock
		(stack text primary key, epoch bigint not null, id text not null, holder text not null)`)
	if code := codeOf(err); code == uniqueViolation || code == duplicateTable {
		return nil
	}
	return err
}

func (p *postgresLock) tryLock(ctx context.Context, conn *pgconn.PgConn) (bool, error) {
	rows, err := query(ctx, conn, `select pg_try_advisory_lock($1::bigint)`, strconv.FormatInt(p.key, 10))
	return err == nil && rows[0][0] == "t", err
}

// whoHas finds the session that holds a bigint advisory lock, as the server
// splits its key: 13.3.5 and 54.12 of the PostgreSQL 17 manual.
const whoHas = `from pg_locks where locktype = 'advisory' and objsubid = 1 and granted
	and database = (select oid from pg_database where datname = current_database())
	and classid = ($1::bigint >> 32 & 4294967295)::oid and objid = ($1::bigint & 4294967295)::oid`

// look tells who holds the lock and in which of the server's processes.
func (p *postgresLock) look(ctx context.Context, conn *pgconn.PgConn) (*plan.Lease, string, error) {
	key := strconv.FormatInt(p.key, 10)
	rows, err := query(ctx, conn, `select pid `+whoHas, key)
	if err != nil || len(rows) == 0 {
		return nil, "", err
	}
	pid := rows[0][0]
	// Its holder may not have written its name yet.
	l := &plan.Lease{ID: "session-" + pid, TTL: plan.LeaseTTL}
	if rows, err = query(ctx, conn, `select epoch, id, holder from mailform_lock where stack = $1 and id <> ''`, p.Stack); err != nil || len(rows) == 0 {
		return l, pid, err
	}
	if l.Epoch, err = strconv.ParseInt(rows[0][0], 10, 64); err != nil {
		return nil, "", err
	}
	l.ID = rows[0][1]
	if json.Unmarshal([]byte(rows[0][2]), &l.Holder) != nil {
		l.Holder = plan.Holder{}
	}
	l.Holder = l.Holder.Printable()
	return l, pid, nil
}

// Renew implements plan.Lock: it asks the server whether this session has it.
func (p *postgresLock) Renew(ctx context.Context, l plan.Lease) (plan.Lease, error) {
	s := p.session()
	if s == nil {
		return l, plan.ErrLeaseLost
	}
	var rows [][]string
	err := s.do(ctx, func(conn *pgconn.PgConn) (err error) {
		rows, err = query(ctx, conn, `select 1 `+whoHas+` and pid = pg_backend_pid()
			and exists (select 1 from mailform_lock where stack = $2 and id = $3)`, strconv.FormatInt(p.key, 10), p.Stack, l.ID)
		return err
	})
	switch {
	case errors.Is(err, plan.ErrLeaseLost):
		return l, err
	case err != nil:
		return l, p.failure("renew", err)
	case len(rows) == 0:
		return l, fmt.Errorf("%w: this session does not hold it (a pooler between us and the server must keep sessions)", plan.ErrLeaseLost)
	}
	return l, nil
}

// Release implements plan.Lock.
func (p *postgresLock) Release(ctx context.Context, l plan.Lease) error {
	s := p.session()
	if s == nil {
		return nil
	}
	defer p.Close()
	err := s.do(ctx, func(conn *pgconn.PgConn) error {
		if _, err := query(ctx, conn, `update mailform_lock set id = '' where stack = $1 and id = $2`, p.Stack, l.ID); err != nil {
			return err
		}
		_, err := query(ctx, conn, `select pg_advisory_unlock_all()`) // now, and not when the server notices the end
		return err
	})
	if err != nil {
		return p.failure("give back", err) // the end of the session gives it back all the same
	}
	return nil
}

func (p *postgresLock) session() *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held
}

// Held implements plan.Lock.
func (p *postgresLock) Held(ctx context.Context) (*plan.Lease, error) {
	conn, err := p.open(ctx)
	if err != nil {
		return nil, err
	}
	defer hangUp(conn)
	held, _, err := p.look(ctx, conn)
	if codeOf(err) == undefinedTable {
		return nil, nil // nobody has ever taken it
	}
	if err != nil {
		return nil, p.failure("look at", err)
	}
	return held, nil
}

// Break implements plan.Lock: it ends the holder's session.
func (p *postgresLock) Break(ctx context.Context, l plan.Lease) error {
	conn, err := p.open(ctx)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	held, pid, err := p.look(ctx, conn)
	if err != nil {
		return p.failure("look at", err)
	}
	if held == nil || held.ID != l.ID {
		return nil
	}
	if _, err := query(ctx, conn, `select pg_terminate_backend($1::int)`, pid); err != nil {
		return p.failure("break", err)
	}
	for begun := p.Now(); ; {
		free, err := p.tryLock(ctx, conn)
		switch {
		case err != nil:
			return p.failure("break", err)
		case free:
			if _, err := p.next(ctx, conn, "", plan.Holder{}); err != nil {
				return p.failure("break", err)
			}
			// Hanging up would free it, too, but only when the server notices.
			if _, err := query(ctx, conn, `select pg_advisory_unlock_all()`); err != nil {
				return p.failure("break", err)
			}
			return nil
		case p.Now().Sub(begun) > patienceWithOurselves:
			return &plan.Error{Class: plan.ErrLocked, Code: "MF6002", Step: "break the lock on " + p.Name(), Got: "its holder's session has not ended", Fix: "look again with mailform unlock"}
		}
		if err := p.Sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}
