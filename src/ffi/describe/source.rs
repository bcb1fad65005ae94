//! Parses the declarations of the ABI from its Rust sources.

use syn::{Attribute, Expr, FnArg, Item, Lit, Meta, Pat, PointerMutability, ReturnType, Signature, Type};

use super::tags::Doc;

/// A C type.
#[derive(Clone, Debug, PartialEq)]
pub struct CType {
    /// The type behind all pointers, such as `char` or `dbss_context`.
    pub base: String,
    pub is_const: bool,
    pub pointers: usize,
}

#[derive(Clone)]
pub struct Parameter {
    pub name: String,
    pub c_type: CType,
    /// The comment of a field; parameters have tags of their function.
    pub doc: Doc,
}

#[derive(Clone)]
pub struct Function {
    pub returns: CType,
    pub parameters: Vec<Parameter>,
}

#[derive(Clone)]
pub enum Kind {
    Constant(i64),
    Alias(CType),
    Handle,
    Struct(Vec<Parameter>),
    Callback(Function),
    Function(Function),
}

/// One declaration of the ABI.
#[derive(Clone)]
pub struct Declared {
    pub name: String,
    pub section: &'static str,
    pub doc: Doc,
    pub kind: Kind,
}

impl CType {
    fn plain(base: &str) -> CType {
        CType {
            base: base.to_owned(),
            is_const: false,
            pointers: 0,
        }
    }

    pub fn is(&self, base: &str, pointers: usize) -> bool {
        self.base == base && self.pointers == pointers
    }

    fn new(rust: &Type) -> Result<CType, String> {
        match rust {
            Type::Ptr(pointer) => {
                let mut inner = CType::new(&pointer.elem)?;
                inner.pointers += 1;
                inner.is_const |= matches!(pointer.mutability, PointerMutability::Const(_));
                Ok(inner)
            }
            Type::Path(path) => {
                let name = path
                    .path
                    .segments
                    .last()
                    .expect("a path has a segment")
                    .ident
                    .to_string();
                let base = match name.as_str() {
                    "c_char" => "char",
                    "c_void" => "void",
                    "c_int" => "int",
                    "u8" => "uint8_t",
                    "i32" => "int32_t",
                    "u32" => "uint32_t",
                    "i64" => "int64_t",
                    "usize" => "size_t",
                    name if name.starts_with("dbss_") => name,
                    _ => return Err(format!("has a type that is not part of the ABI: {name}")),
                };
                Ok(CType::plain(base))
            }
            _ => Err("has a type that is not part of the ABI".to_owned()),
        }
    }
}

impl std::fmt::Display for CType {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let (constant, space) = (
            if self.is_const { "const " } else { "" },
            if self.pointers > 0 { " " } else { "" },
        );
        write!(f, "{constant}{}{space}{}", self.base, "*".repeat(self.pointers))
    }
}

/// Parses the declarations of one source file.
pub fn read(section: &'static str, source: &str) -> Result<Vec<Declared>, String> {
    let file = syn::parse_file(source).map_err(|e| e.to_string())?;
    let mut found = Vec::new();
    for item in &file.items {
        let Some((name, attributes, kind)) = declared(item)? else {
            continue;
        };
        let doc = doc(attributes);
        if doc.prose.is_empty() {
            return Err(format!("{name}: has no comment"));
        }
        found.push(Declared {
            name,
            section,
            doc,
            kind,
        });
    }
    Ok(found)
}

type Named<'a> = (String, &'a [Attribute], Kind);

/// Parses one item of the ABI. None for items that are not part of it.
fn declared(item: &Item) -> Result<Option<Named<'_>>, String> {
    let found = match item {
        Item::Const(one) => (
            one.ident.to_string(),
            &one.attrs,
            number(&one.expr).map(Kind::Constant),
        ),
        Item::Struct(one) => {
            let is_c = one.attrs.iter().any(|a| a.path().is_ident("repr"));
            let fields = || -> Result<Vec<Parameter>, String> {
                let field = |field: &syn::Field| {
                    Ok(Parameter {
                        name: field
                            .ident
                            .as_ref()
                            .ok_or("has a field without a name")?
                            .to_string(),
                        c_type: CType::new(&field.ty)?,
                        doc: doc(&field.attrs),
                    })
                };
                one.fields.iter().map(field).collect()
            };
            let kind = if is_c {
                fields().map(Kind::Struct)
            } else {
                Ok(Kind::Handle)
            };
            (one.ident.to_string(), &one.attrs, kind)
        }
        Item::Type(one) => {
            let kind = match callback(&one.ty) {
                Some(bare) => bare_function(bare).map(Kind::Callback),
                None => CType::new(&one.ty).map(Kind::Alias),
            };
            (one.ident.to_string(), &one.attrs, kind)
        }
        Item::Fn(one) if one.sig.abi.is_some() => (
            one.sig.ident.to_string(),
            &one.attrs,
            function(&one.sig).map(Kind::Function),
        ),
        _ => return Ok(None),
    };
    let (name, attributes, kind) = found;
    if !name.starts_with("dbss_") && !name.starts_with("DBSS_") {
        return Ok(None);
    }
    let kind = kind.map_err(|e| format!("{name}: {e}"))?;
    Ok(Some((name, attributes, kind)))
}

fn number(value: &Expr) -> Result<i64, String> {
    match value {
        Expr::Lit(one) => match &one.lit {
            Lit::Int(number) => number.base10_parse().map_err(|e| e.to_string()),
            _ => Err("is not a number".to_owned()),
        },
        _ => Err("is not a literal".to_owned()),
    }
}

/// Returns the function type in `Option<unsafe extern "C-unwind" fn(...)>`.
fn callback(rust: &Type) -> Option<&syn::TypeFnPtr> {
    let Type::Path(path) = rust else { return None };
    let syn::PathArguments::AngleBracketed(arguments) = &path.path.segments.last()?.arguments else {
        return None;
    };
    match arguments.args.first()? {
        syn::GenericArgument::Type(Type::FnPtr(function)) => Some(function),
        _ => None,
    }
}

fn returned(output: &ReturnType) -> Result<CType, String> {
    match output {
        ReturnType::Default => Ok(CType::plain("void")),
        ReturnType::Type(_, rust) => CType::new(rust),
    }
}

fn parameter(name: Option<String>, rust: &Type) -> Result<Parameter, String> {
    Ok(Parameter {
        name: name.ok_or("has a parameter without a name")?,
        c_type: CType::new(rust)?,
        doc: Doc::default(),
    })
}

fn function(signature: &Signature) -> Result<Function, String> {
    let convert = |one: &FnArg| match one {
        FnArg::Typed(one) => {
            let name = match &*one.pat {
                Pat::Ident(name) => Some(name.ident.to_string()),
                _ => None,
            };
            parameter(name, &one.ty)
        }
        FnArg::Receiver(_) => Err("takes self".to_owned()),
    };
    Ok(Function {
        returns: returned(&signature.output)?,
        parameters: signature.inputs.iter().map(convert).collect::<Result<_, _>>()?,
    })
}

fn bare_function(bare: &syn::TypeFnPtr) -> Result<Function, String> {
    let convert =
        |one: &syn::NamedArg| parameter(one.name.as_ref().map(|(name, _)| name.to_string()), &one.ty);
    Ok(Function {
        returns: returned(&bare.output)?,
        parameters: bare.inputs.iter().map(convert).collect::<Result<_, _>>()?,
    })
}

fn doc(attributes: &[Attribute]) -> Doc {
    let text = |attribute: &Attribute| match &attribute.meta {
        Meta::NameValue(one) if one.path.is_ident("doc") => match &one.value {
            Expr::Lit(value) => match &value.lit {
                Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    Doc::new(&attributes.iter().filter_map(text).collect::<Vec<_>>())
}
