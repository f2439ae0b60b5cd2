//! Components as text: a handler whose code is one line of WAT.

/// Where the answer's record, its header fields and its texts lie in the handler's memory.
const ANSWER: u32 = 1_024;

/// The import of what a handler takes and gives, in WAT.
pub(crate) const TYPES: &str = r#"(import "atoll:edge/types@0.1.0" (instance $types
    (type $header (tuple string (list u8)))
    (type $request-shape (record
      (field "method" string) (field "scheme" string) (field "path" string)
      (field "query" (option string)) (field "authority" (option string))
      (field "headers" (list $header)) (field "body" (list u8))
      (field "client-address" (option string))))
    (export "request" (type $request (eq $request-shape)))
    (type $response-shape (record
      (field "status" u16) (field "headers" (list $header)) (field "body" (list u8))))
    (export "response" (type $response (eq $response-shape)))))"#;

/// Memory for what comes in, in WAT: nothing is given back.
pub(crate) const REALLOC: &str = r#"(global $next (mut i32) (i32.const 8192))
  (func (export "realloc") (param $old i32) (param $old-size i32)
    (param $align i32) (param $size i32) (result i32) (local $at i32)
    (local.set $at (i32.and
      (i32.add (global.get $next) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $next (i32.add (local.get $at) (local.get $size)))
    (local.get $at))"#;

/// The answer that a handler returns, as pointers and lengths: it may lie.
#[derive(Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) status: u32,
    pub(crate) headers: (u32, u32),
    pub(crate) body: (u32, u32),
}

impl Answer {
    pub(crate) const OK: Answer = Answer { status: 200, headers: (0, 0), body: (0, 0) };

    /// Returns the code that leaves the answer's address on the stack.
    pub(crate) fn code(self) -> String {
        let Answer { status, headers, body } = self;
        let fields = [status, headers.0, headers.1, body.0, body.1];
        let stores: String = (0..)
            .zip(fields)
            .map(|(place, field)| {
                format!("(i32.store (i32.const {}) (i32.const {field}))", ANSWER + 4 * place)
            })
            .collect();
        format!("{stores} (i32.const {ANSWER})")
    }
}

/// A component of the world `atoll:edge/handler`, in parts.
pub(crate) struct Text<'a> {
    /// The body of `handle`: leaves the address of an answer.
    pub(crate) code: &'a str,
    /// Other fields of the core module: data, globals, a start function.
    pub(crate) module: &'a str,
    /// Pages of memory to begin with.
    pub(crate) pages: u32,
    /// Imports of the component, beside the types.
    pub(crate) imports: &'a str,
}

impl Default for Text<'_> {
    fn default() -> Self {
        Text { code: "unreachable", module: "", pages: 1, imports: "" }
    }
}

impl Text<'_> {
    pub(crate) fn wasm(&self) -> Vec<u8> {
        let Text { code, module, pages, imports } = self;
        let text = format!(
            r#"(component
              {TYPES}
              {imports}
              (alias export $types "request" (type $request))
              (alias export $types "response" (type $response))
              (core module $code
                (memory (export "memory") {pages})
                {REALLOC}
                {module}
                (func $handle (export "handle") (param $request i32) (result i32) {code}))
              (core instance $instance (instantiate $code))
              (func $handle (param "request" $request) (result $response)
                (canon lift (core func $instance "handle") (memory (core memory $instance "memory"))
                  (realloc (core func $instance "realloc"))))
              (instance $handler (export "handle" (func $handle)))
              (export "atoll:edge/incoming-handler@0.1.0" (instance $handler)))"#
        );
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }
}

/// A handler with this code.
pub(crate) fn handler(code: &str) -> Vec<u8> {
    Text { code, ..Text::default() }.wasm()
}
