//! Names and addresses: getaddrinfo(3) for one family, and getifaddrs(3).

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::check;

/// The IP addresses of this machine's interfaces, or of the container's: those of
/// the network namespace (getifaddrs(3)). Without the scope of link-local ones.
///
/// # Errors
/// What `getifaddrs` says.
pub fn interface_addresses() -> io::Result<Vec<IpAddr>> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `first` is a valid place for the address of a list.
    check(unsafe { libc::getifaddrs(&mut first) })?;
    let (mut found, mut next) = (Vec::new(), first);
    while !next.is_null() {
        // SAFETY: `next` is an item of the list, which lives until freeifaddrs.
        let item = unsafe { &*next };
        found.extend(ip_address(item.ifa_addr));
        next = item.ifa_next;
    }
    // SAFETY: the list is what getifaddrs has made, and nothing refers to it any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

/// The IP address in a socket address; None for another family, or none at all.
fn ip_address(address: *const libc::sockaddr) -> Option<IpAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: the kernel's socket addresses begin with their family.
    match libc::c_int::from(unsafe { (*address).sa_family }) {
        libc::AF_INET => {
            // SAFETY: an address of this family is a sockaddr_in.
            let address = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes()).into())
        }
        libc::AF_INET6 => {
            // SAFETY: an address of this family is a sockaddr_in6.
            let address = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What a name server says of a name in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookUp {
    /// These addresses, one at least.
    Found(Vec<SocketAddr>),
    /// That there is none.
    Nothing,
    /// Nothing that can be relied on, and why.
    Failed(String),
}

/// Looks a host up in one family alone (getaddrinfo(3)), and gives what it finds
/// that port. Blocks, for many seconds where no name server answers.
///
/// In one family, since musl gives up a name altogether for the answer in the
/// other: an IPv4 address beside NXDOMAIN for IPv6 is "Name does not
/// resolve", beside SERVFAIL, REFUSED or silence "Try again" after 5 s
/// (`name_from_dns` in `lookup_name.c`).
pub fn look_up(host: &str, port: u16, family: Family) -> LookUp {
    let Ok(name) = CString::new(host) else {
        return LookUp::Nothing;
    };
    // SAFETY: addrinfo is integers and pointers, of which none needs to be valid.
    let mut hints: libc::addrinfo = unsafe { MaybeUninit::zeroed().assume_init() };
    hints.ai_socktype = libc::SOCK_STREAM;
    hints.ai_family = match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    };
    let mut list = std::ptr::null_mut();
    // SAFETY: the name ends in a zero, and everything outlives the call. No
    // service is asked for.
    let status = unsafe { libc::getaddrinfo(name.as_ptr(), std::ptr::null(), &hints, &mut list) };
    let last_error = io::Error::last_os_error();
    match status {
        0 => {
            // SAFETY: getaddrinfo has succeeded, and the list is used nowhere else.
            let found = unsafe { addresses(list, port) };
            if found.is_empty() {
                LookUp::Nothing
            } else {
                LookUp::Found(found)
            }
        }
        libc::EAI_NONAME | libc::EAI_NODATA | EAI_ADDRFAMILY => LookUp::Nothing,
        libc::EAI_SYSTEM => LookUp::Failed(last_error.to_string()),
        status => {
            // SAFETY: the text is a constant of the C library.
            let text = unsafe { CStr::from_ptr(libc::gai_strerror(status)) };
            LookUp::Failed(text.to_string_lossy().into_owned())
        }
    }
}

/// The name has addresses, and none in this family (glibc's netdb.h).
const EAI_ADDRFAMILY: libc::c_int = -9;

/// The addresses of a list of getaddrinfo's, which is freed.
///
/// # Safety
/// `list` is one that getaddrinfo has returned, and is not used afterwards.
unsafe fn addresses(list: *mut libc::addrinfo, port: u16) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    let mut next = list;
    while !next.is_null() {
        // SAFETY: the entries of the list are valid until it is freed, and an
        // address is of the structure that its family says.
        unsafe {
            let entry = &*next;
            let address = entry.ai_addr;
            match entry.ai_family {
                libc::AF_INET => {
                    let address = address.cast::<libc::sockaddr_in>().read_unaligned();
                    let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
                    found.push(SocketAddr::from((ip, port)));
                }
                libc::AF_INET6 => {
                    let address = address.cast::<libc::sockaddr_in6>().read_unaligned();
                    let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
                    let (flow, scope) = (0, address.sin6_scope_id);
                    found.push(SocketAddrV6::new(ip, port, flow, scope).into());
                }
                _ => {}
            }
            next = entry.ai_next;
        }
    }
    // SAFETY: the list is getaddrinfo's, and not used after this.
    unsafe { libc::freeaddrinfo(list) };
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn an_address_is_found_in_its_own_family_and_no_name_in_any() {
        let look_up = |host, family| look_up(host, 80, family);
        let found = |address: &str| LookUp::Found(vec![address.parse().unwrap()]);
        assert_eq!(look_up("127.0.0.1", Family::V4), found("127.0.0.1:80"));
        assert_eq!(look_up("::1", Family::V6), found("[::1]:80"));
        assert_eq!(look_up("127.0.0.1", Family::V6), LookUp::Nothing);
        assert_eq!(look_up("::1", Family::V4), LookUp::Nothing);
        assert_eq!(look_up("a\0b", Family::V4), LookUp::Nothing);
    }

    #[test]
    fn the_interfaces_have_the_address_from_which_a_connection_is_made() {
        let all = interface_addresses().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(all.contains(&client.local_addr().unwrap().ip()), "{all:?}");
        assert!(!all.contains(&"192.0.2.1".parse().unwrap()), "{all:?}");
    }
}
