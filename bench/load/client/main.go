// Command client loads an HTTP server with one request, again and again, over a fixed number of
// connections, and prints what it saw as one line of JSON. The request's body is read from standard
// input.
//
// Without a rate each connection sends its next request after the answer (a closed loop). With one,
// requests are due at even distances, whatever the server does (an open loop), and a latency counts
// from the time that the request was due: what waits for a connection waits for the server.
//
// Every answer is checked: its status, its framing, and of an event stream the number of events
// and the end. A connection that breaks is counted as an error and opened again.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"sagepool.dev/bench/wire"
)

const (
	endOfStream = "data: [DONE]\n\n"
	slowBuffer  = 32 << 10
)

type settings struct {
	address  string
	request  []byte
	clients  int
	requests int64
	events   int
	stream   bool
	limit    time.Duration
	patience time.Duration
	hold     time.Duration
	finish   string
	rate     float64
	reads    int
}

// Result is what is printed. Times are in microseconds.
type Result struct {
	Requests   int     `json:"requests"`
	Events     int     `json:"events"`
	Errors     int     `json:"errors"`
	FirstError string  `json:"first_error"`
	Open       int64   `json:"open"`
	WallUS     int64   `json:"wall_us"`
	CPUUS      int64   `json:"cpu_us"`
	LatencyUS  []int64 `json:"latency_us"`
	FirstUS    []int64 `json:"first_us"`
}

// run is what the clients share.
type run struct {
	settings
	started  time.Time
	taken    atomic.Int64
	open     atomic.Int64
	openPeak atomic.Int64
	opened   chan struct{}
	due      chan time.Time
	hurry    atomic.Bool
}

// client is one connection and what was seen on it.
type client struct {
	run        *run
	connection net.Conn
	reader     *bufio.Reader
	line, body []byte
	result     Result
}

func (client *client) dial() error {
	connection, err := net.DialTimeout("tcp", client.run.address, client.run.patience)
	if err != nil {
		return err
	}
	client.connection = connection
	var source io.Reader = connection
	if client.run.reads > 0 {
		// A large buffer in the kernel would read ahead of us.
		_ = connection.(*net.TCPConn).SetReadBuffer(slowBuffer)
		source = &slowReader{connection, client.run}
	}
	client.reader = bufio.NewReaderSize(source, 16<<10)
	return nil
}

// slowReader reads no more than a number of bytes a second, until the run is in a hurry.
type slowReader struct {
	connection net.Conn
	run        *run
}

func (slow *slowReader) Read(buffer []byte) (int, error) {
	count, err := slow.connection.Read(buffer)
	if !slow.run.hurry.Load() {
		time.Sleep(time.Duration(count) * time.Second / time.Duration(slow.run.reads))
	}
	return count, err
}

// next says when the next request begins; false: there is none.
func (run *run) next() (time.Time, bool) {
	if run.due != nil {
		begin, more := <-run.due
		return begin, more
	}
	more := run.taken.Add(1) <= run.requests && time.Since(run.started) < run.limit
	return time.Now(), more
}

// schedule makes requests due at even distances, each at a time that does not drift.
func (run *run) schedule() {
	defer close(run.due)
	// The runtime's timers go by milliseconds where it is idle; a thread of our own sleeps exactly.
	runtime.LockOSThread()
	for number := int64(0); number < run.requests; number++ {
		due := time.Duration(float64(number) / run.rate * float64(time.Second))
		if due >= run.limit {
			return
		}
		if early := due - time.Since(run.started); early > 0 {
			pause := syscall.NsecToTimespec(int64(early))
			_ = syscall.Nanosleep(&pause, nil)
		}
		run.due <- run.started.Add(due)
	}
}

func (client *client) loop() {
	run := client.run
	for begin, more := run.next(); more; begin, more = run.next() {
		if err := client.exchange(begin); err != nil {
			client.result.Errors++
			if client.result.FirstError == "" {
				client.result.FirstError = err.Error()
			}
			_ = client.connection.Close()
			if client.dial() != nil {
				return
			}
		}
	}
}

func (client *client) exchange(begin time.Time) error {
	_ = client.connection.SetDeadline(time.Now().Add(client.run.patience))
	if _, err := client.connection.Write(client.run.request); err != nil {
		return err
	}
	head, err := wire.ReadHead(client.reader, client.line)
	if err != nil {
		return err
	}
	client.line = head.First
	ok := bytes.Contains(head.First, []byte(" 200 "))
	switch {
	case head.Chunked && ok && client.run.stream:
		err = client.readStream(begin)
	case head.Chunked:
		err = client.readChunks()
	case head.Length == wire.Unsized:
		err = errors.New("an answer without a length")
	default:
		client.body, err = wire.ReadSized(client.reader, head.Length, client.body)
	}
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%s: %.200s", head.First, client.body)
	}
	client.result.Requests++
	client.result.LatencyUS = append(client.result.LatencyUS, time.Since(begin).Microseconds())
	if head.Close {
		return errors.New("the server closes a connection that could be kept")
	}
	return nil
}

func (client *client) readChunks() error {
	for {
		chunk, err := wire.ReadChunk(client.reader, client.body)
		if err != nil || len(chunk) == 0 {
			return err
		}
		client.body = chunk
	}
}

// readStream counts events by the empty line behind each, wherever chunks begin and end.
func (client *client) readStream(begin time.Time) error {
	events, tail := 0, make([]byte, 0, 2*len(endOfStream))
	defer func() {
		if events > 0 {
			client.run.open.Add(-1)
		}
	}()
	for {
		chunk, err := wire.ReadChunk(client.reader, client.body)
		if err != nil {
			return err
		}
		if len(chunk) == 0 {
			return client.checkStream(events, tail)
		}
		client.body = chunk
		if events == 0 {
			client.result.FirstUS = append(client.result.FirstUS, time.Since(begin).Microseconds())
			client.run.noteOpen()
		}
		events += bytes.Count(chunk, []byte("\n\n"))
		if len(tail) > 0 && tail[len(tail)-1] == '\n' && chunk[0] == '\n' {
			events++
		}
		tail = append(tail, chunk[max(0, len(chunk)-len(endOfStream)):]...)
		tail = append(tail[:0], tail[max(0, len(tail)-len(endOfStream)):]...)
	}
}

func (client *client) checkStream(events int, tail []byte) error {
	client.result.Events += events
	if string(tail) != endOfStream {
		return fmt.Errorf("a stream that ends with %q", tail)
	}
	// Some routers add one of their own, with the usage.
	if client.run.events > 0 && events < client.run.events {
		return fmt.Errorf("a stream of %d events instead of %d", events, client.run.events)
	}
	return nil
}

func (run *run) noteOpen() {
	open := run.open.Add(1)
	for peak := run.openPeak.Load(); open > peak; peak = run.openPeak.Load() {
		if run.openPeak.CompareAndSwap(peak, open) {
			break
		}
	}
	if open == int64(run.clients) {
		select {
		case run.opened <- struct{}{}:
		default:
		}
	}
}

// holdStreams waits until every stream is open, holds them, and has the engine end them.
func (run *run) holdStreams() error {
	select {
	case <-run.opened:
		time.Sleep(run.hold)
	case <-time.After(run.limit):
	}
	run.hurry.Store(true)
	connection, err := net.DialTimeout("tcp", run.finish, run.patience)
	if err != nil {
		return err
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(run.patience))
	if _, err = io.WriteString(connection, "GET /finish HTTP/1.1\r\nconnection: close\r\n\r\n"); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, connection)
	return err
}

func (run *run) do() (Result, error) {
	clients := make([]*client, run.clients)
	for index := range clients {
		clients[index] = &client{run: run}
		if err := clients[index].dial(); err != nil {
			return Result{}, err
		}
	}
	before, err := cpuTime()
	if err != nil {
		return Result{}, err
	}
	var done sync.WaitGroup
	run.started = time.Now()
	if run.rate > 0 {
		run.due = make(chan time.Time, run.requests)
		go run.schedule()
	}
	for _, client := range clients {
		done.Go(client.loop)
	}
	if run.hold > 0 {
		if err := run.holdStreams(); err != nil {
			return Result{}, err
		}
	}
	done.Wait()
	after, err := cpuTime()
	if err != nil {
		return Result{}, err
	}
	total := Result{
		WallUS: time.Since(run.started).Microseconds(), Open: run.openPeak.Load(),
		LatencyUS: []int64{}, FirstUS: []int64{},
	}
	for _, client := range clients {
		total.add(&client.result)
	}
	total.CPUUS = after - before
	return total, nil
}

// cpuTime is what this process has used until now, in microseconds.
func cpuTime() (int64, error) {
	var usage syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return (usage.Utime.Nano() + usage.Stime.Nano()) / 1000, err
}

func (total *Result) add(part *Result) {
	total.Requests += part.Requests
	total.Events += part.Events
	total.Errors += part.Errors
	if total.FirstError == "" {
		total.FirstError = part.FirstError
	}
	total.LatencyUS = append(total.LatencyUS, part.LatencyUS...)
	total.FirstUS = append(total.FirstUS, part.FirstUS...)
}

func read() (*run, error) {
	run := &run{opened: make(chan struct{}, 1)}
	var path string
	flag.StringVar(&run.address, "address", "", "HOST:PORT of the server")
	flag.StringVar(&path, "path", "/v1/chat/completions", "what is posted to")
	flag.IntVar(&run.clients, "clients", 1, "connections")
	flag.Int64Var(&run.requests, "requests", 1, "requests in all")
	flag.DurationVar(&run.limit, "limit", 10*time.Second, "no request is begun after this time")
	flag.DurationVar(&run.patience, "patience", 30*time.Second, "for one connection or answer")
	flag.BoolVar(&run.stream, "stream", false, "answers are event streams")
	flag.IntVar(&run.events, "events", 0, "events of each stream at least; 0: any number")
	flag.DurationVar(&run.hold, "hold", 0, "hold the streams open together for this time")
	flag.StringVar(&run.finish, "finish", "", "HOST:PORT of the engine, which ends held streams")
	flag.Float64Var(&run.rate, "rate", 0, "requests due in a second; 0: each after the answer before")
	flag.IntVar(&run.reads, "reads", 0, "bytes a second that a connection reads while streams are held")
	flag.Parse()
	body, err := io.ReadAll(os.Stdin)
	if err != nil {
		return nil, err
	}
	var head strings.Builder
	fmt.Fprintf(&head, "POST %s HTTP/1.1\r\nhost: %s\r\ncontent-type: application/json\r\n", path, run.address)
	fmt.Fprintf(&head, "content-length: %d\r\n\r\n", len(body))
	run.request = append([]byte(head.String()), body...)
	return run, nil
}

func main() {
	debug.SetGCPercent(400)
	run, err := read()
	if err == nil {
		var result Result
		if result, err = run.do(); err == nil {
			err = json.NewEncoder(os.Stdout).Encode(result)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}
