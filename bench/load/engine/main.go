// Command engine stands in for a model server while a router is measured.
//
// It answers at once, or streams at the pace that the request itself asks for: "max_tokens" events,
// the first one "bench_first_ms" after the request, the others "bench_interval_ms" apart. The pace
// stands in the prompt, which any router leaves as it is; some write the rest of the body anew. The
// engine looks for it among the first bytes of the body, and reads the rest without looking at it.
//
// "GET /calls" tells how many requests of either kind it has got, so that merged ones can be told
// from others. It prints the port that it listens on, and ends when its standard input ends.
package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sagepool.dev/bench/wire"
)

const (
	parametersWithin = 2048
	readBuffer       = 32 << 10
	dimension        = 384
	maxTexts         = 64
)

const (
	completion = `{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,` +
		`"model":"bench-chat","choices":[{"index":0,"message":{"role":"assistant","content":` +
		`"The stand-in engine answers every question with this sentence."},"finish_reason":"stop"}],` +
		`"usage":{"prompt_tokens":50,"completion_tokens":11,"total_tokens":61}}`
	event = `data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,` +
		`"model":"bench-chat","choices":[{"index":0,"delta":{"content":" word"},` +
		`"finish_reason":null}]}` + "\n\n"
	lastEvent = "data: [DONE]\n\n"
	models    = `{"object":"list","data":[{"id":"bench-chat","object":"model","max_model_len":131072},` +
		`{"id":"bench-embed","object":"model","max_model_len":512}]}`
	metrics = "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 0\n" +
		"# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting 0\n" +
		"# TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc 0\n"
	streamHead = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n" +
		"transfer-encoding: chunked\r\n\r\n"
)

// engine holds the answers, ready to be written, and the signal that ends all streams.
type engine struct {
	answers      map[string][]byte
	notFound     []byte
	unsized      []byte
	chunk, tail  []byte
	embeddings   [maxTexts + 1][]byte
	calls        atomic.Int64
	finishLock   sync.Mutex
	finishSignal chan struct{}
}

func newEngine() *engine {
	chat := answer("200 OK", "application/json", completion)
	made := &engine{
		answers: map[string][]byte{
			"POST /v1/chat/completions": chat,
			"POST /v1/completions":      chat,
			"GET /v1/models":            answer("200 OK", "application/json", models),
			"GET /metrics":              answer("200 OK", "text/plain; version=0.0.4", metrics),
			"GET /health":               answer("200 OK", "text/plain", ""),
			"GET /finish":               answer("200 OK", "text/plain", ""),
		},
		notFound:     answer("404 Not Found", "application/json", `{"error":{"message":"not here"}}`),
		unsized:      answer("411 Length Required", "application/json", `{"error":{"message":"no length"}}`),
		chunk:        []byte(fmt.Sprintf("%x\r\n%s\r\n", len(event), event)),
		tail:         []byte(fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(lastEvent), lastEvent)),
		finishSignal: make(chan struct{}),
	}
	for texts := 1; texts <= maxTexts; texts++ {
		made.embeddings[texts] = answer("200 OK", "application/json", embedding(texts))
	}
	return made
}

func answer(status, contentType, body string) []byte {
	return []byte(fmt.Sprintf("HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s",
		status, contentType, len(body), body))
}

// embedding answers a call with so many texts.
func embedding(texts int) string {
	numbers := make([]string, dimension)
	for index := range numbers {
		numbers[index] = strconv.FormatFloat(float64(index-dimension/2)/4096, 'f', 8, 64)
	}
	vector := strings.Join(numbers, ",")
	items := make([]string, texts)
	for index := range items {
		items[index] = fmt.Sprintf(`{"object":"embedding","index":%d,"embedding":[%s]}`, index, vector)
	}
	return fmt.Sprintf(`{"object":"list","model":"bench-embed","data":[%s],`+
		`"usage":{"prompt_tokens":%d,"total_tokens":%d}}`, strings.Join(items, ","), 30*texts, 30*texts)
}

// countTexts says how many texts a body carries; none of them holds a quote.
func countTexts(body []byte) int {
	_, list, found := bytes.Cut(body, []byte(`"input":[`))
	if !found {
		return 1
	}
	list, _, _ = bytes.Cut(list, []byte("]"))
	return bytes.Count(list, []byte(`"`)) / 2
}

func (engine *engine) embed(connection net.Conn, reader *bufio.Reader, length int) error {
	body, err := wire.ReadSized(reader, length, nil)
	if err != nil {
		return err
	}
	ready := engine.notFound
	if texts := countTexts(body); texts > 0 && texts <= maxTexts {
		ready = engine.embeddings[texts]
	}
	_, err = connection.Write(ready)
	return err
}

func (engine *engine) serve(connection net.Conn) {
	defer connection.Close()
	reader := bufio.NewReaderSize(connection, readBuffer)
	var line []byte
	for {
		head, err := wire.ReadHead(reader, line)
		if err != nil {
			return
		}
		line = head.First
		if err = engine.respond(connection, reader, head); err != nil || head.Close {
			return
		}
	}
}

func (engine *engine) respond(connection net.Conn, reader *bufio.Reader, head wire.Head) error {
	if head.Chunked {
		_, _ = connection.Write(engine.unsized)
		return io.ErrUnexpectedEOF
	}
	target, _, _ := bytes.Cut(head.First, []byte(" HTTP/"))
	if bytes.HasPrefix(target, []byte("POST ")) {
		engine.calls.Add(1)
	}
	if string(target) == "POST /v1/embeddings" {
		return engine.embed(connection, reader, head.Length)
	}
	stream, err := readStream(reader, head.Length)
	if err != nil {
		return err
	}
	if stream != nil {
		return engine.stream(connection, stream)
	}
	ready, found := engine.answers[string(target)]
	if !found {
		ready = engine.notFound
	}
	switch string(target) {
	case "GET /finish":
		engine.finish()
	case "GET /calls":
		ready = answer("200 OK", "application/json", strconv.FormatInt(engine.calls.Load(), 10))
	}
	_, err = connection.Write(ready)
	return err
}

// pace is how a stream is to be answered.
type pace struct {
	events          int
	first, interval time.Duration
}

// readStream reads the body; it returns nil where the body asks for no stream.
func readStream(reader *bufio.Reader, length int) (*pace, error) {
	if length <= 0 {
		return nil, nil
	}
	start, err := reader.Peek(min(length, parametersWithin))
	if err != nil {
		return nil, err
	}
	var asked *pace
	if bytes.Contains(start, []byte(`"stream":true`)) {
		asked = &pace{
			events:   number(start, `"max_tokens":`),
			first:    time.Duration(number(start, "bench_first_ms=")) * time.Millisecond,
			interval: time.Duration(number(start, "bench_interval_ms=")) * time.Millisecond,
		}
	}
	_, err = reader.Discard(length)
	return asked, err
}

func number(text []byte, key string) int {
	_, rest, _ := bytes.Cut(text, []byte(key))
	value := 0
	for _, digit := range rest {
		if digit < '0' || digit > '9' {
			break
		}
		value = value*10 + int(digit-'0')
	}
	return value
}

// stream writes an event at a time, each due at a time that does not drift with the ones before.
func (engine *engine) stream(connection net.Conn, asked *pace) error {
	engine.finishLock.Lock()
	finished := engine.finishSignal
	engine.finishLock.Unlock()
	if _, err := connection.Write([]byte(streamHead)); err != nil {
		return err
	}
	due := time.Now().Add(asked.first)
	timer := time.NewTimer(asked.first)
	defer timer.Stop()
	for sent := 0; sent < asked.events; sent++ {
		select {
		case <-timer.C:
		case <-finished:
			sent = asked.events
			continue
		}
		if _, err := connection.Write(engine.chunk); err != nil {
			return err
		}
		due = due.Add(asked.interval)
		timer.Reset(time.Until(due))
	}
	_, err := connection.Write(engine.tail)
	return err
}

// finish ends the streams that are open now, in good order.
func (engine *engine) finish() {
	engine.finishLock.Lock()
	defer engine.finishLock.Unlock()
	close(engine.finishSignal)
	engine.finishSignal = make(chan struct{})
}

// loopback is the number-th address that the engine answers at, where many instances are needed.
func loopback(number, port int) string {
	return fmt.Sprintf("127.0.%d.%d:%d", number/250, number%250+1, port)
}

// listen opens the same port on so many addresses.
func listen(addresses int) ([]net.Listener, int, error) {
	listeners, port := make([]net.Listener, 0, addresses), 0
	for number := range addresses {
		listener, err := net.Listen("tcp4", loopback(number, port))
		if err != nil {
			return nil, 0, err
		}
		port = listener.Addr().(*net.TCPAddr).Port
		listeners = append(listeners, listener)
	}
	return listeners, port, nil
}

func (engine *engine) accept(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		go engine.serve(connection)
	}
}

func run() error {
	debug.SetGCPercent(400)
	addresses := flag.Int("addresses", 1, "listen on so many addresses of the loopback network")
	flag.Parse()
	listeners, port, err := listen(*addresses)
	if err != nil {
		return err
	}
	stub := newEngine()
	for _, listener := range listeners {
		go stub.accept(listener)
	}
	fmt.Println(port)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "engine:", err)
		os.Exit(1)
	}
}
